"""Looks at other processes of the same machine, which need not answer: memory, CPU, stacks.

Stacks are written by the process that is looked at, in a handler of a signal that needs no lock of
the interpreter (`faulthandler`), into a file in memory that both have open.
"""

from __future__ import annotations

import fcntl
import linecache
import os
import re
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psutil

from greenroom.machine import open_shared_file

STACKS = "greenroom-stacks"
"""The name of the file."""
WRITTEN_WITHIN_S = 2.0
LOOK_S = 0.002
STILL_S = 0.008
"""When nothing was added for so long, the stacks are written; nothing marks their end."""

_THREAD = re.compile(r"^(?:Current thread|Thread) 0x([0-9a-f]+)(?: \[([^\]]*)\])?")
_FRAME = re.compile(r'^\s*File "(.*)", line (\d+|\?\?\?) in (.*)$')


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What a process uses.

    Attributes:
        memory_bytes: its own memory and its part of what it shares with others: forks share what
            the fork server has imported. Where a system does not tell that, its own memory only.
        cpu_percent: of one core, since the sample before; None for the first sample.
    """

    memory_bytes: int
    cpu_percent: float | None


class Neighbours:
    """The processes that were looked at last. Not thread-safe."""

    def __init__(self) -> None:
        self._known: dict[int, psutil.Process] = {}

    def sample(self, pids: Iterable[int]) -> dict[int, Sample]:
        """Returns what the processes use; those that are gone are left out. Blocks shortly."""
        found: dict[int, Sample] = {}
        for pid in pids:
            process = self._known.get(pid)
            try:
                is_new = process is None or not process.is_running()
                if process is None or is_new:
                    process = psutil.Process(pid)
                told, cpu = process.memory_full_info(), process.cpu_percent(None)
            except psutil.Error:
                self._known.pop(pid, None)
                continue
            self._known[pid] = process
            memory = getattr(told, "pss", told.uss)
            found[pid] = Sample(memory_bytes=memory, cpu_percent=None if is_new else cpu)
        return found


def stacks_by_signal(pid: int, descriptor: int) -> str:
    """Has a process write its stacks. Blocks, for milliseconds, or up to `WRITTEN_WITHIN_S`.

    Args:
        descriptor: of its file for stacks.

    Returns:
        what `faulthandler` has written; empty if it has written nothing.

    Raises:
        OSError: there is no such process any more.
    """
    opened = open_shared_file(pid, descriptor, STACKS)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)  # another look at the same process
        os.ftruncate(opened, 0)
        os.kill(pid, signal.SIGUSR2)
        size = 0
        until_s = time.monotonic() + WRITTEN_WITHIN_S
        still_since_s = time.monotonic()
        while (now_s := time.monotonic()) < until_s:
            grown = os.fstat(opened).st_size
            if grown != size:
                size, still_since_s = grown, now_s
            elif size and now_s - still_since_s >= STILL_S:
                break
            time.sleep(LOOK_S)
        return os.pread(opened, size, 0).decode(errors="replace")
    finally:
        os.close(opened)


def parsed(written: str) -> list[dict[str, Any]]:
    """Returns the threads of what `faulthandler` has written, with the lines of this machine's
    files; frames are innermost first."""
    threads: list[dict[str, Any]] = []
    for line in written.splitlines():
        if (begun := _THREAD.match(line)) is not None:
            name = begun[2] or ""
            threads.append({"name": name, "id": int(begun[1], 16), "owner": "", "frames": []})
        elif threads and (frame := _FRAME.match(line)) is not None:
            number = int(frame[2]) if frame[2].isdigit() else None
            source = linecache.getline(frame[1], number).strip() if number else ""
            shown = {"file": frame[1], "line": number, "function": frame[3], "source": source}
            threads[-1]["frames"].append(shown)
    return threads
