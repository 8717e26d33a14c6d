"""Servers, as separate processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from abc import abstractmethod
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx
import psutil

from benchmarks.client import Api, Stopwatch
from benchmarks.processes import Processes
from benchmarks.subjects.subject import Subject

GRAPHS = Path(__file__).parent.parent / "graphs"
START_PATIENCE_S = 180.0
STOP_PATIENCE_S = 60.0


class Server(Subject):
    """A server as a separate process, on a free port.

    Args:
        scratch: an empty directory, for its data and its log.

    Attributes:
        health: the path that answers when it is there.
    """

    health = "/ok"

    def __init__(self, name: str, title: str, scratch: Path) -> None:
        self.name = name
        self.title = title
        self.scratch = scratch
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self, port: int) -> list[str]: ...

    @abstractmethod
    def environment(self) -> dict[str, str]: ...

    @abstractmethod
    def says_ready(self, log: str) -> bool: ...

    @property
    def database(self) -> Path | None:
        """The directory of its embedded PostgreSQL."""
        return None

    @property
    def directory(self) -> Path:
        """The working directory of its command."""
        return self.scratch

    @property
    def log(self) -> Path:
        return self.scratch / "server.log"

    async def start(self) -> float:
        self.scratch.mkdir(parents=True, exist_ok=True)
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        watch = Stopwatch()
        self._process = self._spawned(port)
        self.processes = Processes(self._process.pid, self.database)
        async with httpx.AsyncClient(base_url=self.url) as http:
            while not await self._ready(http):
                if self._process.poll() is not None or watch.s > START_PATIENCE_S:
                    await self.stop()
                    raise RuntimeError(f"{self.name} did not start:\n{self.log.read_text()}")
                await asyncio.sleep(0.05)
        return watch.s

    def _spawned(self, port: int) -> subprocess.Popen[bytes]:
        with self.log.open("wb") as output:
            return subprocess.Popen(
                self.command(port),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment()},
            )

    async def _ready(self, http: httpx.AsyncClient) -> bool:
        if not self.says_ready(self.log.read_text(errors="replace")):
            return False
        with contextlib.suppress(httpx.HTTPError):
            return (await http.get(self.health)).status_code == 200
        return False

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        family = list(self.processes)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(process.wait, STOP_PATIENCE_S)
        finally:
            for left in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    left.kill()

    def connect(self, connections: int) -> AbstractAsyncContextManager[Api]:
        return Api.open(self.url, connections)


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]
