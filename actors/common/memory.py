"""Gives back the memory that a process no longer needs.

Python frees at once what is in no cycle of references. But an attempt that has ended is in such
cycles, with its events and states, and the garbage collector counts objects, not their bytes: a
few thousand objects with a gigabyte between them start no collection. The C library keeps freed
pages that lie between used ones. And a database connection keeps room for the largest message that
it ever had. So a thread looks at the resident memory of its process: when it has grown by
`GROWN_BYTES`, the thread collects and returns pages, and a process that stays large gets new
connections.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import logging
import threading
import time
import weakref

from greenroom.core.units import MIB
from greenroom.machine import ResidentMemory, return_free_pages
from greenroom.persistence.database import Pool

log = logging.getLogger("greenroom.memory")

LOOK_S = 1.0
GROWN_BYTES = 64 * MIB
"""A process collects when it holds so much more than after its last collection."""
SHARE = 4
"""And more than a quarter of what it holds: the time of a collection grows with that."""
AGAIN_S = (2.0, 60.0)
"""What was in use at a collection may be garbage by now. So a process that holds `GROWN_BYTES` more
than at its start collects again: after two seconds, and after twice the time, up to a minute, where
the last time gave little back."""
MOST_OF_TIME = 0.01
"""The share of a CPU's time that collections may take."""
LONG_S = 0.25
LONG_PAUSE_S = 3600.0
"""A collection that takes longer has many objects to look at. Those Python's own collector counts,
and everything else in the process waits for a collection; so the next one is far away."""


class MemoryReturn:
    """Watches the resident memory of its process; `start` starts the thread.

    Args:
        collects: False for a process without user code, which makes little garbage and has others
            wait for it.

    The thread is not the one of a loop, nor that of a guard: a collection may execute the
    finalizers of user code, which may never return.
    """

    def __init__(self, *, collects: bool = True) -> None:
        self._collects = collects
        self._resident = ResidentMemory()
        self._begun_bytes = self._least_bytes = self._resident.bytes()
        self._pause_s, self._next_s = AGAIN_S[0], 0.0
        self._pools: list[tuple[weakref.ref[Pool], asyncio.AbstractEventLoop]] = []
        self._connections_are_new = True
        self._renewing: concurrent.futures.Future[None] | None = None
        self._asked = threading.Event()
        self._given = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._keep, name="greenroom-memory", daemon=True).start()

    def renews(self, pool: Pool) -> None:
        """Renews the connections of a pool from now on; called on the pool's loop."""
        self._pools.append((weakref.ref(pool), asyncio.get_running_loop()))

    def now(self, within_s: float) -> None:
        """Has memory given back; returns when that is done, or after ``within_s`` seconds."""
        self._given = given = threading.Event()
        self._asked.set()
        given.wait(within_s)

    def _keep(self) -> None:
        try:
            while True:
                asked = self._asked.wait(LOOK_S)
                self._asked.clear()
                given = self._given
                self.look(asked=asked)
                if asked:
                    given.set()
        except OSError as error:  # user code has closed the file; a guard ends the process for that
            log.error("The memory of a process is not given back any more: %s", error)

    def look(self, *, asked: bool = False) -> None:
        """Collects and returns pages, if there may be something to give back or somebody asks."""
        held = self._resident.bytes()
        self._least_bytes = min(self._least_bytes, held)
        grown = held - self._least_bytes
        has_grown = grown > max(GROWN_BYTES, self._least_bytes // SHARE)
        is_large = held - self._begun_bytes > GROWN_BYTES
        if grown > GROWN_BYTES // SHARE:
            self._connections_are_new = False
        is_due = (has_grown or is_large) and time.monotonic() >= self._next_s
        if not (asked or is_due):
            return
        if not has_grown and not self._connections_are_new:
            # Later than the growth: most are in use during that.
            self._connections_are_new = True
            self._renew_connections()
        begun_s = time.thread_time()
        if self._collects:
            gc.collect()
        return_free_pages()
        took_s = time.thread_time() - begun_s
        self._least_bytes = self._resident.bytes()
        gave_much = held - self._least_bytes > self._least_bytes // (2 * SHARE)
        self._pause_s = AGAIN_S[0] if gave_much or has_grown else min(2 * self._pause_s, AGAIN_S[1])
        rest_s = LONG_PAUSE_S if took_s > LONG_S else took_s / MOST_OF_TIME
        self._next_s = time.monotonic() + max(self._pause_s, rest_s)

    def _renew_connections(self) -> None:
        for found, loop in self._pools:
            pool = found()
            if pool is not None and not pool.closed and not loop.is_closed():
                # Those in use are closed when they come back.
                with contextlib.suppress(RuntimeError):  # the loop is closed meanwhile
                    self._renewing = asyncio.run_coroutine_threadsafe(pool.drain(), loop)


_STARTED: list[MemoryReturn] = []
"""The one of this process."""


def watch_memory(pool: Pool, *, collects: bool = True) -> None:
    """Has this process give back what it no longer needs; called on the loop of its pool.

    Args:
        collects: as of `MemoryReturn`.
    """
    if not _STARTED:
        _STARTED.append(MemoryReturn(collects=collects))
        _STARTED[0].start()
    _STARTED[0].renews(pool)


def give_back_memory(within_s: float) -> None:
    """Gives back what this process no longer needs; waits ``within_s`` seconds at most.

    Does nothing before `watch_memory`.
    """
    if _STARTED:
        _STARTED[0].now(within_s)
