"""Signals that end a command at any moment.

The first signal raises `Stopped` in the main thread. That thread may be in C code that turns the
exception into an error of its own, or in code that swallows exceptions, such as a destructor. So
`Signals` also remembers the signal: the code that starts a server calls `Signals.check` between two
steps and after a failed step.
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
"""Ctrl-C, the signal of service managers, and a closed terminal."""

SIGNAL_TURN_S = 0.5


class Stopped(BaseException):
    """A signal asked the command to end. It is not a failure, so it is not an Exception."""


class Signals:
    """The ending signals that this process has received.

    Args:
        data_dir: the server's data directory; a second signal ends what the server left there.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._received = 0

    def check(self) -> None:
        """Raises Stopped if a signal was received."""
        if self._received:
            raise Stopped

    def wait(self) -> None:
        """Waits for a signal; never returns.

        It sets the handlers again, because ``ray.init`` replaces them.

        Raises:
            Stopped: a signal was received, now or earlier.
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
    """In the block the first signal raises `Stopped`; the second one ends this process at once."""
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
