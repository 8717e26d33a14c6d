"""Lets a debugger into a run actor (``greenroom dev --debug-port``).

A breakpoint stops the threads of its process that execute graphs; those that answer the registry
and readers go on, so the server takes the process for a busy one. Other runs have other processes.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import socket
import tempfile
import threading
from typing import Any

from greenroom.core.errors import ConfigurationError

HOST = "127.0.0.1"
MOST_PORTS = 100
MISSING = "A debugger needs debugpy, which is not installed here: pip install debugpy"


class Debugging:
    """The debugger of this process.

    Args:
        first_port: where the search for a free port begins; None lets no debugger in.
    """

    def __init__(self, first_port: int | None) -> None:
        self._first = first_port
        self._executes = 0
        self._left_alone: set[int] = set()
        self._debugpy: Any = None

    def listen(self) -> int | None:
        """Opens the first free port from the first one on; returns it, or None.

        Breakpoints stop the thread that calls this.

        Raises:
            ConfigurationError: debugpy is not installed, or no port is free.
        """
        if self._first is None:
            return None
        os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # else it writes to stderr
        try:
            debugpy: Any = importlib.import_module("debugpy")
        except ImportError:
            raise ConfigurationError(MISSING) from None
        # Actors start at the same time, and each tries the same ports.
        name = f"greenroom-debug-{os.getuid()}-{self._first}"
        turn = os.open(os.path.join(tempfile.gettempdir(), name), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(turn, fcntl.LOCK_EX)
            port = _free_port(self._first)
            debugpy.listen((HOST, port))
        finally:
            os.close(turn)
        self._debugpy = debugpy
        self._executes = threading.get_ident()
        return port

    def leave_alone(self) -> None:
        """Has no breakpoint stop the thread that calls this, unless it has called `listen`."""
        thread = threading.get_ident()
        if self._debugpy is not None and thread not in (self._executes, *self._left_alone):
            self._left_alone.add(thread)
            self._debugpy.trace_this_thread(False)


def _free_port(first: int) -> int:
    for port in range(first, min(first + MOST_PORTS, 65_536)):
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind((HOST, port))
            except OSError:
                continue
            return port
    raise ConfigurationError(f"No port from {first} on is free for a debugger.")
