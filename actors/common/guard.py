"""The guard thread of an actor. It ends the process when the process exceeds its memory limit, when
no registry calls any more, or when the loop that executes runs has stopped.

The guard works while user code blocks every loop, and must never stop unnoticed: without it an
actor has no memory limit and outlives its server. So it opens its file before any graph is loaded
(a graph may use up all descriptors), and every unexpected error ends the process; the registry
handles this like any other death.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from actors.common.memory import give_back_memory
from greenroom.core.units import MIB
from greenroom.machine import ResidentMemory

log = logging.getLogger("greenroom.guard")

EXIT_SILENCE = 76
EXIT_MEMORY = 77
EXIT_LOOP = 78
EXIT_UNGUARDED = 79

LOOK_INTERVAL_S = 0.25
FAREWELL_S = 0.1
GIVE_BACK_S = 0.5
"""How long a process over its limit may take to give back what it no longer needs."""


class Guard:
    """Watches its process; the constructor starts the thread.

    Args:
        silence_s: the process ends after so many seconds without a call of `hear`.
        memory_mib: the limit of resident memory; 0 for no limit.
        exhausted: called with the resident MiB right before the process ends over its limit, e.g.
            to report the reason; its exceptions are ignored.
    """

    def __init__(
        self,
        *,
        silence_s: float,
        memory_mib: int = 0,
        exhausted: Callable[[int], None] = lambda resident_mib: None,
    ) -> None:
        self._silence_s = silence_s
        self._limit_bytes = memory_mib * MIB
        self._exhausted = exhausted
        self._heard_s = time.monotonic()
        self._thread: threading.Thread | None = None
        self._resident = ResidentMemory() if memory_mib else None
        threading.Thread(target=self._watch, name="greenroom-watch", daemon=True).start()

    def hear(self) -> None:
        """Notes a call of a registry."""
        self._heard_s = time.monotonic()

    def watch_thread(self, thread: threading.Thread) -> None:
        """Also ends the process when this thread, which executes the actor's work, has ended."""
        self._thread = thread

    def _watch(self) -> None:
        try:
            while True:
                time.sleep(LOOK_INTERVAL_S)
                self._look()
        except BaseException:  # the process must not continue without its guard
            with suppress(Exception):  # a log that cannot be written keeps no process alive
                log.critical("The guard of an actor failed, so the actor ends.", exc_info=True)
            os._exit(EXIT_UNGUARDED)

    def _look(self) -> None:
        if time.monotonic() - self._heard_s > self._silence_s:
            os._exit(EXIT_SILENCE)
        if self._thread is not None and not self._thread.is_alive():
            # User code has stopped the thread's loop: no run would ever continue.
            os._exit(EXIT_LOOP)
        if self._resident is None:
            return
        resident = self._resident.bytes()
        if resident > self._limit_bytes:
            # What earlier runs have left is no fault of those that are executed.
            give_back_memory(GIVE_BACK_S)
            resident = self._resident.bytes()
        if resident > self._limit_bytes:
            with suppress(Exception):  # Ray raises various errors when memory is short
                self._exhausted(resident // MIB)
                time.sleep(FAREWELL_S)  # lets the message leave before the process does
            os._exit(EXIT_MEMORY)
