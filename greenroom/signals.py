"""Ends a command that is told to end, at whatever moment.

The first signal raises `Stopped` where the main thread is. That may be in the middle of C code,
which turns it into an error of its own, or in a place that swallows exceptions, such as a
destructor. So the signal is remembered as well: who starts something asks between two steps, and
when a step fails (`Signals.check`).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from greenroom import datadir
from greenroom.environment import remove_haproxy_dir

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, what service managers send, and a terminal that is closed."""

SIGNAL_TURN_S = 0.5


class Stopped(BaseException):
    """Somebody asked us to end: Ctrl-C, or SIGTERM. No failure, so no Exception either."""


class Signals:
    """The signals that have come.

    Args:
        data_dir: of the server, whose leftovers a second signal ends.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._received = 0

    def check(self) -> None:
        """Raises Stopped if a signal has come."""
        if self._received:
            raise Stopped

    def wait(self) -> None:
        """Returns never; raises Stopped when a signal comes, or has come.

        It sets the handlers again, since ``ray.init`` puts its own in their place.
        """
        self.listen()
        never = threading.Event()
        # In turns: a signal between two bytecodes, just before the wait, does not end it.
        while not self._received:
            never.wait(SIGNAL_TURN_S)
        raise Stopped

    def listen(self) -> None:
        for number in ENDING_SIGNALS:
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received += 1
        if self._received > 1:
            # Ray's processes and the embedded database end with us; the proxy would not.
            datadir.end_orphans(self._data_dir)
            remove_haproxy_dir(self._data_dir)
            os._exit(128 + number)
        raise Stopped


@contextmanager
def ending_signals(data_dir: Path) -> Generator[Signals, None, None]:
    """The first of the signals raises `Stopped`; the second ends this process at once."""
    signals = Signals(data_dir)
    before = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    show = sys.unraisablehook

    def show_others(unraisable: sys.UnraisableHookArgs) -> None:
        # Raised in a destructor or a callback: `check` raises it again.
        if not isinstance(unraisable.exc_value, Stopped):
            show(unraisable)

    sys.unraisablehook = show_others
    signals.listen()
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = show
