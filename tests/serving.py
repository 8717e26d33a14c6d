"""A real server for tests: `greenroom serve` as a process of its own, on a free port."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

PROBES = Path(__file__).parent / "graphs" / "langgraph.json"
START_PATIENCE_S = 200.0
"""Seconds on an idle machine. `make test` starts several at once, and CI has neighbours."""
STOP_PATIENCE_S = 60.0


@dataclass
class Served:
    """A running server.

    Attributes:
        url: base address.
        process: the `greenroom serve` command.
        data_dir: its embedded database and files.
        log: everything that it printed.
    """

    url: str
    process: subprocess.Popen[bytes]
    data_dir: Path
    log: Path

    def actors(self) -> dict[str, psutil.Process]:
        """Its Ray actors by process id, as their titles say: ``ray::RunActor.read`` and so on."""
        found = {}
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, IndexError):
                title = process.cmdline()[0]
                if title.startswith("ray::"):
                    found[f"{title.removeprefix('ray::')}#{process.pid}"] = process
        return found

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ends it as a person would; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(STOP_PATIENCE_S)


def free_port() -> int:
    """Not one of those that outgoing connections take: it must still be free a second later."""
    while True:
        port = random.randrange(15_000, 20_000)
        with socket.socket() as held, contextlib.suppress(OSError):
            held.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def serving(
    data_dir: Path,
    config: Path = PROBES,
    *,
    arguments: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
    port: int | None = None,
    program: tuple[str, ...] = ("-m", "greenroom", "serve"),
) -> Iterator[Served]:
    """Starts a server, waits until it answers, and ends it whatever happens."""
    port = port or free_port()
    data_dir.mkdir(parents=True, exist_ok=True)
    log = data_dir / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, *program, "--config", str(config)),
                *("--port", str(port), "--data-dir", str(data_dir), *arguments),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
    served = Served(f"http://127.0.0.1:{port}", process, data_dir, log)
    try:
        _wait_until_ready(served)
        yield served
    finally:
        descendants = []
        with contextlib.suppress(psutil.NoSuchProcess):
            descendants = served.descendants()
        try:
            served.stop()
        finally:
            for process_left in descendants:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process_left.kill()


def _wait_until_ready(served: Served) -> None:
    deadline_s = time.monotonic() + START_PATIENCE_S
    while time.monotonic() < deadline_s:
        if served.process.poll() is not None:
            raise AssertionError(f"The server ended:\n{served.log.read_text()}")
        if "Ctrl-C ends it" in served.log.read_text():
            httpx.get(f"{served.url}/ok").raise_for_status()
            return
        time.sleep(0.1)
    raise AssertionError(f"The server did not get ready:\n{served.log.read_text()}")
