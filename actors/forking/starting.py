"""Starts the fork server of a server's own Ray, and ends it."""

from __future__ import annotations

import logging
import os
import select
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from actors.forking import program, server
from actors.forking.server import READY

log = logging.getLogger("greenroom.server")

PROGRAM = program.__file__
"""The program that Ray starts in place of its own."""
END_S = 5.0


class ForkServer:
    """The fork server of this process. It starts to import at once.

    It ends when this process ends, however that happens.

    Args:
        without: the names of environment variables that Ray's processes do not have.
        with_serve: whether it imports the modules of Serve's processes too.
    """

    def __init__(self, *, without: Iterable[str], with_serve: bool) -> None:
        absent = set(without)
        self._process = subprocess.Popen(
            [sys.executable, server.__file__, *([] if with_serve else ["--without-serve"])],
            env={name: text for name, text in os.environ.items() if name not in absent},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def listen(self, directory: Path, limit_s: float) -> bool:
        """Has it answer the programs of one Ray, for good.

        Args:
            directory: the directory in which that Ray's own directory is.
            limit_s: how long its first imports may take.

        Returns:
            whether it listens. If not, actors import for themselves.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(os.fsencode(directory / program.SOCKET) + b"\n")
            self._process.stdin.flush()
        except OSError:
            return False
        answers, _, _ = select.select([self._process.stdout], [], [], limit_s)
        if not answers or self._process.stdout.readline() != READY:
            log.warning("The fork server does not start; processes will start without it.")
            return False
        return True

    def stop(self) -> None:
        """Ends it; the processes that it made stay."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
