"""The subjects of the benchmarks, with one interface: thread, wait, stream."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx
import psutil

from benchmarks.client import Api, Stopwatch
from benchmarks.processes import Processes

GRAPHS = Path(__file__).parent / "graphs"
START_PATIENCE_S = 180.0
STOP_PATIENCE_S = 60.0
BARE_CONNECTIONS = 8

FEW_JOBS = 10
"""With few jobs its queue stays full under load, and it polls less: more trivial runs a second, and
far fewer that sleep."""

REFERENCE_PACKAGES = ("langgraph-cli[inmem]", "langgraph-api==0.16.7")
AEGRA = ".venv-aegra"
NO_AEGRA = (
    f"Aegra is not in {AEGRA}: 'make {AEGRA}/.installed' installs it, with Python 3.12 or newer."
)


class Connected(Protocol):
    """A subject that takes runs."""

    async def thread(self) -> str: ...

    async def wait(self, thread_id: str, graph: str, values: dict[str, Any]) -> None: ...

    def stream(
        self, thread_id: str, graph: str, values: dict[str, Any], mode: str
    ) -> AsyncIterator[int]: ...


class Subject(ABC):
    """A program that executes graphs.

    Attributes:
        name: its name in ``--subjects`` and in the results.
        title: its name in the table.
        processes: its processes, while it runs.
    """

    name: str
    title: str
    processes: Processes

    @abstractmethod
    async def start(self) -> float:
        """Starts the subject; returns the seconds until it was ready."""

    @abstractmethod
    async def stop(self) -> None:
        """Ends the subject if it runs."""

    @abstractmethod
    def connect(self, connections: int) -> AbstractAsyncContextManager[Connected]:
        """Returns a connection for a number of concurrent runs."""


# --- bare LangGraph ------------------------------------------------------------------------------


class Bare(Subject):
    """LangGraph in this process, durable in an embedded PostgreSQL: the limit for any server.

    Args:
        scratch: an empty directory.
        pooled: without the lock of the stock saver, which serialises its calls.
    """

    def __init__(self, scratch: Path, *, pooled: bool) -> None:
        self.name = "bare-pooled" if pooled else "bare"
        self.title = f"bare LangGraph, {'our pooled' if pooled else 'stock'} saver"
        self._pooled = pooled
        self._directory = scratch / "pg"
        self._graphs: dict[str, Any] = {}

    async def start(self) -> float:
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

        from greenroom.persistence.checkpoints import PooledSaver
        from greenroom.persistence.database import open_pool
        from greenroom.persistence.embedded import start_embedded
        from greenroom.persistence.migrations import migrate

        watch = Stopwatch()
        self._database = await asyncio.to_thread(start_embedded, self._directory)
        self._pool = await open_pool(
            self._database.dsn, application_name="bench", min_size=1, max_size=BARE_CONNECTIONS
        )
        pool: Any = self._pool
        await migrate(self._database.dsn)
        saver = PooledSaver(pool) if self._pooled else AsyncPostgresSaver(pool)
        graphs = _bench_graphs()
        for name in ("agent", "trivial", "slow", "blob", "burst", "burn"):
            self._graphs[name] = getattr(graphs, name).copy(update={"checkpointer": saver})
        self.processes = Processes(os.getpid(), self._directory, alone=True)
        return watch.s

    async def stop(self) -> None:
        if self._graphs:
            self._graphs = {}
            await self._pool.close()
            await asyncio.to_thread(self._database.stop)

    @asynccontextmanager
    async def connect(self, connections: int) -> AsyncGenerator[Connected]:
        yield self

    async def thread(self) -> str:
        return str(uuid.uuid4())

    async def wait(self, thread_id: str, graph: str, values: dict[str, Any]) -> None:
        await self._graphs[graph].ainvoke(values, _config(thread_id))

    async def stream(
        self, thread_id: str, graph: str, values: dict[str, Any], mode: str
    ) -> AsyncIterator[int]:
        mode = "messages" if mode == "messages-tuple" else mode
        async for _ in self._graphs[graph].astream(values, _config(thread_id), stream_mode=mode):
            yield 1


def _bench_graphs() -> Any:
    from benchmarks.graphs import bench_graphs

    return bench_graphs


def _config(thread_id: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": thread_id}}


# --- servers -------------------------------------------------------------------------------------


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


class Greenroom(Server):
    """`greenroom serve`, with its embedded PostgreSQL; every write is durable.

    Args:
        configuration: a file name in ``benchmarks/graphs``.
    """

    def __init__(self, name: str, title: str, scratch: Path, configuration: str) -> None:
        super().__init__(name, title, scratch)
        self._configuration = GRAPHS / configuration

    @property
    def data_dir(self) -> Path:
        return self.scratch / "data"

    @property
    def database(self) -> Path:
        return self.data_dir / "pg"

    def command(self, port: int) -> list[str]:
        return [
            *(sys.executable, "-m", "greenroom", "serve", "--config", str(self._configuration)),
            *("--port", str(port), "--data-dir", str(self.data_dir)),
        ]

    def environment(self) -> dict[str, str]:
        return {}

    def says_ready(self, log: str) -> bool:
        return "Ctrl-C ends it" in log

    async def actors(self) -> int:
        """Returns the number of its run actors."""
        return (await self._counts())["actors"]

    async def is_growing(self) -> bool:
        """Whether it is starting a run actor."""
        return any(actor["state"] == "starting" for actor in (await self._counts())["pool"])

    async def _counts(self) -> dict[str, Any]:
        async with self.connect(1) as api:
            return json.loads(await api.get("/info"))["counts"]


class Reference(Server):
    """`langgraph dev`, in memory.

    Args:
        python: the Python of the environment in which it is installed.
        jobs: the number of runs that its worker executes concurrently.
    """

    def __init__(self, name: str, scratch: Path, python: Path, jobs: int) -> None:
        super().__init__(name, f"reference server, in memory, {jobs} jobs", scratch)
        self._python = python
        self._jobs = jobs

    @property
    def directory(self) -> Path:
        return self.scratch / "graphs"

    def command(self, port: int) -> list[str]:
        # It leaves a directory beside the configuration, and takes paths from where it is started.
        shutil.copytree(GRAPHS, self.directory, dirs_exist_ok=True)
        return [
            *(str(self._python.parent / "langgraph"), "dev", "--no-browser", "--no-reload"),
            *("--config", str(self.directory / "langgraph.json")),
            *("--port", str(port), "--n-jobs-per-worker", str(self._jobs)),
        ]

    def environment(self) -> dict[str, str]:
        return {"LANGSMITH_TRACING": "false"}

    def says_ready(self, log: str) -> bool:
        return True

    def version(self) -> str:
        return _version(self._python, "langgraph-api")


class Aegra(Server):
    """`aegra serve` without Redis, durable in an embedded PostgreSQL like ours.

    Args:
        python: the Python of the environment in which it is installed.
    """

    health = "/health"

    def __init__(self, name: str, scratch: Path, python: Path) -> None:
        super().__init__(name, "Aegra, without Redis", scratch)
        self._python = python
        self._embedded: Any = None

    @property
    def database(self) -> Path:
        return self.scratch / "pg"

    @property
    def directory(self) -> Path:
        return self.scratch / "graphs"

    async def start(self) -> float:
        """Starts its database, and then the server; only the server's start is measured."""
        from greenroom.persistence.embedded import start_embedded

        self._embedded = await asyncio.to_thread(start_embedded, self.database)
        return await super().start()

    async def stop(self) -> None:
        if self._process is not None:
            # Whatever is left of a server is killed, and its database is none that ends with it.
            self.processes = Processes(self._process.pid)
        await super().stop()
        embedded, self._embedded = self._embedded, None
        if embedded is not None:
            await asyncio.to_thread(embedded.stop)

    def command(self, port: int) -> list[str]:
        shutil.copytree(GRAPHS, self.directory, dirs_exist_ok=True)
        return [
            *(str(self._python.parent / "aegra"), "serve", "--host", "127.0.0.1"),
            *("--port", str(port), "--config", str(self.directory / "langgraph.json")),
        ]

    def environment(self) -> dict[str, str]:
        return {"DATABASE_URL": self._embedded.dsn, "REDIS_BROKER_ENABLED": "false"}

    def says_ready(self, log: str) -> bool:
        return True

    def version(self) -> str:
        return _version(self._python, "aegra-api")


def _version(python: Path, package: str) -> str:
    ask = f"from importlib.metadata import version as v; print(v({package!r}))"
    return subprocess.check_output([python, "-c", ask], text=True).strip()


def aegra_python(root: Path) -> Path | None:
    """Returns the Python with Aegra, or None if it is not installed."""
    python = root / AEGRA / "bin" / "python"
    return python if (python.parent / "aegra").exists() else None


def reference_python(given: Path | None, root: Path) -> Path:
    """Returns the given Python, or that of ``.venv-reference``, which it makes once."""
    if given is not None:
        return given / "bin" / "python" if given.is_dir() else given
    python = root / ".venv-reference" / "bin" / "python"
    if not (python.parent / "langgraph").exists():
        print(f"Installing {' '.join(REFERENCE_PACKAGES)} into .venv-reference ...", flush=True)
        subprocess.check_call([sys.executable, "-m", "venv", str(python.parent.parent)])
        subprocess.check_call([python, "-m", "pip", "install", "--quiet", *REFERENCE_PACKAGES])
    return python


def makers(
    reference: Callable[[], Path], jobs: int, aegra: Path | None
) -> dict[str, Callable[[Path], Subject]]:
    """Returns a constructor per subject, given a scratch directory, in the order of the table.

    Args:
        reference, aegra: the Pythons of their environments; without Aegra it is no subject.
        jobs: the runs that the reference executes concurrently.
    """
    found: dict[str, Callable[[Path], Subject]] = {
        "bare": lambda scratch: Bare(scratch, pooled=False),
        "bare-pooled": lambda scratch: Bare(scratch, pooled=True),
        "greenroom": lambda scratch: Greenroom(
            "greenroom", "Greenroom, one run per actor", scratch, "langgraph.json"
        ),
        "dense": lambda scratch: Greenroom("dense", "Greenroom, dense", scratch, "dense.json"),
        "reference": lambda scratch: Reference("reference", scratch, reference(), jobs),
        "reference-few": lambda scratch: Reference("reference-few", scratch, reference(), FEW_JOBS),
    }
    if aegra is not None:
        found["aegra"] = lambda scratch: Aegra("aegra", scratch, aegra)
    return found


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]
