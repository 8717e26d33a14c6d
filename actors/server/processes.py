"""Ends all descendants of this process, also those that were reparented.

Ray's workers, Serve's proxies and HAProxy detach from the process that started them. A subreaper
(Linux) becomes the parent of its orphaned descendants, so it can find and end them all.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Collection

import psutil

PR_SET_CHILD_SUBREAPER = 36
MOST_KILLS = 50
PAUSE_S = 0.02


def adopt_orphans() -> None:
    """Makes orphaned descendants children of this process; on Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants() -> list[psutil.Process]:
    """Returns the descendants that have not ended."""
    return _living(())


def end_descendants(grace_s: float, *, spared: Collection[psutil.Process] = ()) -> None:
    """Ends all descendants: with SIGTERM, and after ``grace_s`` with SIGKILL.

    A process may start another one before it ends, so this repeats until there are no descendants,
    at most `MOST_KILLS` times.

    Args:
        grace_s: seconds between the two signals.
        spared: descendants that stay, with their own descendants.
    """
    _signal_all(signal.SIGTERM, spared)
    deadline_s = time.monotonic() + grace_s
    while _living(spared) and time.monotonic() < deadline_s:
        time.sleep(PAUSE_S)
    for _ in range(MOST_KILLS):
        if not _signal_all(signal.SIGKILL, spared):
            return
        time.sleep(PAUSE_S)


def _signal_all(number: signal.Signals, spared: Collection[psutil.Process]) -> bool:
    """Signals each descendant that is not spared; returns whether there was one."""
    living = _living(spared)
    for process in living:
        # psutil first checks that the process id still belongs to the same process.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
    return bool(living)


def _living(spared: Collection[psutil.Process]) -> list[psutil.Process]:
    """Returns the descendants that have not ended, without spared ones and their descendants.

    Reaps the children that have ended.
    """
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    staying = set(spared)
    for each in spared:
        with contextlib.suppress(psutil.NoSuchProcess):
            staying.update(each.children(recursive=True))
    found = psutil.Process().children(recursive=True)
    return [each for each in found if each not in staying and not _is_over(each)]


def _is_over(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
