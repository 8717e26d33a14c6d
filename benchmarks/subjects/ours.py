"""Greenroom."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.subjects.server import GRAPHS, Server


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
