"""Ends all descendants of this process, also those that were reparented.

Ray's workers, Serve's proxies and HAProxy detach from the process that started them. A subreaper
(`greenroom.machine.adopt_orphans`, on Linux) becomes the parent of its orphaned descendants, so it
can find them all. Elsewhere an orphan is no descendant any more, so those that were found once are
remembered until they have ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection

import psutil

MOST_KILLS = 50
PAUSE_S = 0.02


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
    found: set[psutil.Process] = set()

    def living() -> list[psutil.Process]:
        found.update(_living(spared))
        return [each for each in found if not _is_over(each)]

    def signal_all(number: signal.Signals) -> bool:
        processes = living()
        for process in processes:
            # psutil first checks that the process id still belongs to the same process.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        return bool(processes)

    signal_all(signal.SIGTERM)
    deadline_s = time.monotonic() + grace_s
    while living() and time.monotonic() < deadline_s:
        time.sleep(PAUSE_S)
    for _ in range(MOST_KILLS):
        if not signal_all(signal.SIGKILL):
            return
        time.sleep(PAUSE_S)


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
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
