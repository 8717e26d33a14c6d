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

import psutil

PR_SET_CHILD_SUBREAPER = 36
MOST_KILLS = 50
PAUSE_S = 0.02


def adopt_orphans() -> None:
    """Makes orphaned descendants children of this process; does nothing elsewhere than on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_descendants(grace_s: float) -> None:
    """Ends every descendant: with SIGTERM, and after ``grace_s`` with SIGKILL.

    A process may start another one before it ends, so descendants are looked for again until there
    are none, `MOST_KILLS` times.
    """
    _signal_all(signal.SIGTERM)
    deadline_s = time.monotonic() + grace_s
    while _living() and time.monotonic() < deadline_s:
        time.sleep(PAUSE_S)
    for _ in range(MOST_KILLS):
        if not _signal_all(signal.SIGKILL):
            return
        time.sleep(PAUSE_S)


def _signal_all(number: signal.Signals) -> bool:
    """Signals each descendant; returns whether there was one."""
    living = _living()
    for process in living:
        # psutil looks first whether the number has been given to another process since.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
    return bool(living)


def _living() -> list[psutil.Process]:
    """Returns the descendants that have not ended; reaps the children that have."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return [each for each in psutil.Process().children(recursive=True) if not _is_over(each)]


def _is_over(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
