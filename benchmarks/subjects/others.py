"""The servers to compare with, and where they are installed."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.processes import Processes
from benchmarks.subjects.server import GRAPHS, Server

REFERENCE_PACKAGES = ("langgraph-cli[inmem]", "langgraph-api==0.16.7")
AEGRA = ".venv-aegra"
NO_AEGRA = (
    f"Aegra is not in {AEGRA}: 'make {AEGRA}/.installed' installs it, with Python 3.12 or newer."
)


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
