"""Leaving nothing behind: every process that came from this one, wherever it was reparented to.

Ray's workers, Serve's proxies and HAProxy detach from their starter. A process that declares itself
a subreaper (Linux) becomes the parent of its orphaned descendants, so it can find and end them all.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Makes orphaned descendants children of this process; does nothing elsewhere than on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_descendants(grace_s: float) -> None:
    """Ends every descendant: politely, and after ``grace_s`` by force."""
    _signal_all(signal.SIGTERM)
    deadline_s = time.monotonic() + grace_s
    while _living() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    for _ in range(50):
        if not _signal_all(signal.SIGKILL):
            return
        time.sleep(0.02)


def _signal_all(number: signal.Signals) -> bool:
    living = _living()
    for pid in living:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return bool(living)


def _living() -> list[int]:
    """Descendants that have not ended; reaps those that have."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(stat.parent.name))
    found: list[int] = []
    todo = [os.getpid()]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found
