"""The thread of an actor that ends its process: when it outgrows its memory, nobody is left, or the
loop that executes runs has stopped.

It works while user code blocks every loop, and must never stop working unheard: an actor without
its guard has no memory limit, and outlives a server that is gone. So it opens what it reads before
any graph is loaded (a graph may use up all descriptors), and whatever it did not expect ends the
process, which is a death like any other.
"""

from __future__ import annotations

import logging
import os
import resource
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from greenroom.core.units import MIB

log = logging.getLogger("greenroom.guard")

EXIT_SILENCE = 76
EXIT_MEMORY = 77
EXIT_LOOP = 78
EXIT_UNGUARDED = 79

LOOK_INTERVAL_S = 0.25
FAREWELL_S = 0.1


class Guard:
    """Watches its process from when it is made.

    Args:
        silence_s: without `hear` for so long, the process ends.
        memory_mib: resident memory over which the process ends; 0 for no limit.
        exhausted: is told the resident MiB right before that, e.g. to say why; what it raises is
            passed over.
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
        self._statm = os.open("/proc/self/statm", os.O_RDONLY) if memory_mib else -1
        threading.Thread(target=self._watch, name="greenroom-watch", daemon=True).start()

    def hear(self) -> None:
        """A registry has said something."""
        self._heard_s = time.monotonic()

    def watch_thread(self, thread: threading.Thread) -> None:
        """From now on the process ends with this thread, which executes the actor's work."""
        self._thread = thread

    def _watch(self) -> None:
        try:
            while True:
                time.sleep(LOOK_INTERVAL_S)
                self._look()
        except BaseException:  # whatever it is, the process must not go on unguarded
            with suppress(Exception):  # a log that cannot be written keeps no process alive
                log.critical("The guard of an actor failed, so the actor ends.", exc_info=True)
            os._exit(EXIT_UNGUARDED)

    def _look(self) -> None:
        if time.monotonic() - self._heard_s > self._silence_s:
            os._exit(EXIT_SILENCE)
        if self._thread is not None and not self._thread.is_alive():
            # User code has stopped its loop: nothing here would ever go on.
            os._exit(EXIT_LOOP)
        if not self._limit_bytes:
            return
        resident = int(os.pread(self._statm, 200, 0).split()[1]) * resource.getpagesize()
        if resident > self._limit_bytes:
            with suppress(Exception):  # Ray raises many things where memory is short
                self._exhausted(resident // MIB)
                time.sleep(FAREWELL_S)  # lets the message leave before the process does
            os._exit(EXIT_MEMORY)
