"""The processes of a server: their CPU seconds and their memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil

MIB = 1024 * 1024


class Processes:
    """A process, its descendants, and an embedded PostgreSQL that is no longer its descendant.

    Args:
        root: the process id of the server's command.
        database: the directory of its embedded PostgreSQL, if it has one.
        alone: count ``root`` without its descendants.
    """

    def __init__(self, root: int, database: Path | None = None, *, alone: bool = False) -> None:
        self._root = root
        self._database = database
        self._alone = alone

    def __iter__(self) -> Iterator[psutil.Process]:
        yield from _family(self._root, alone=self._alone)
        if self._database is not None:
            with contextlib.suppress(OSError, ValueError, IndexError):
                lines = (self._database / "data" / "postmaster.pid").read_text().splitlines()
                yield from _family(int(lines[0]))

    def cpu_s(self) -> dict[int, float]:
        """Returns the CPU seconds (user and system) of each process, by process id."""
        used: dict[int, float] = {}
        for process in self:
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                used[process.pid] = times.user + times.system
        return used

    def cpu_s_since(self, before: dict[int, float]) -> float:
        """Returns the CPU seconds of all processes together since `cpu_s` returned ``before``.

        The CPU of a process that has ended meanwhile is not included.
        """
        return sum(now - before.get(pid, 0.0) for pid, now in self.cpu_s().items())

    def pss_mib(self) -> float:
        """Returns the memory in MiB; a page that several processes share counts once."""
        total = 0.0
        for process in self:
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().pss
        return total / MIB

    def titled(self, beginning: str) -> list[psutil.Process]:
        """Returns the processes whose title has this prefix, e.g. ``ray::RunActor``."""
        found: list[psutil.Process] = []
        for process in self:
            with contextlib.suppress(psutil.Error, IndexError):
                if process.cmdline()[0].startswith(beginning):
                    found.append(process)
        return found


def _family(root: int, *, alone: bool = False) -> Iterator[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(root)
        yield process
        if not alone:
            yield from process.children(recursive=True)
