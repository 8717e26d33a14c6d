"""A stand-in for HAProxy: nobody waits while Ray Serve makes a new one.

Serve finds out that its HAProxy is gone by three failed looks, and then makes a new process of its
own around a new HAProxy: seconds in which nobody is answered. What HAProxy needs is there all the
time, its configuration and the gateways. So whoever started the server looks after it: the
kernel tells at once that the process has ended (a pidfd), and it is started again with the
configuration that it had. When Serve's next one is there, the stand-in takes no connection any
more, and ends when those that it has are over.

Both listen on the same port for a moment, for which Serve's must have SO_REUSEPORT
(`greenroom.environment`).
"""

from __future__ import annotations

import itertools
import logging
import os
import select
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import psutil

log = logging.getLogger("greenroom.standin")

LOOK_S = 0.5
"""How often it looks for processes that it does not know yet, in seconds."""
SETTLED_LOOKS = 2
"""So many looks in a row Serve's own is there before the stand-in leaves."""


class StandIn:
    """Watches the HAProxy whose configuration is in a directory.

    Args:
        folder: anywhere below it; nobody else's HAProxy has it there.
        look_s: see `LOOK_S`.
    """

    def __init__(self, folder: Path, *, look_s: float = LOOK_S) -> None:
        self._mark = f"{folder}/"
        self._look_s = look_s
        self._command: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._leaving: list[subprocess.Popen[bytes]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="standin", daemon=True)

    def start(self) -> None:
        """Begins to watch; there need not be one yet."""
        self._thread.start()

    def stop(self) -> None:
        """Watches no longer, and ends the stand-in if there is one."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()
        for process in self._ours():
            process.kill()
            process.wait()

    def _watch(self) -> None:
        seen = 0
        while not self._over.is_set():
            theirs = self._theirs()
            if theirs:
                seen += 1
                self._command = next(iter(theirs.values()))
                if self._process is not None and seen >= SETTLED_LOOKS:
                    self._leave()
                self._until_one_ends([*theirs])
                continue
            seen = 0
            if self._command and (self._process is None or self._process.poll() is not None):
                self._stand_in()
            self._over.wait(self._look_s)

    def _stand_in(self) -> None:
        log.warning("HAProxy is gone; another one stands in until Ray Serve has made a new one.")
        with suppress(OSError):  # its configuration is gone: the server is stopping
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )

    def _leave(self) -> None:
        """Takes no connection any more; HAProxy ends itself when it has none left."""
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR1)
        self._leaving = [each for each in self._ours() if each.poll() is None]
        self._process = None

    def _ours(self) -> list[subprocess.Popen[bytes]]:
        return [*self._leaving, *([self._process] if self._process is not None else [])]

    def _theirs(self) -> dict[int, list[str]]:
        """The HAProxies that are not ours, by process id, and how to start one like them."""
        found: dict[int, list[str]] = {}
        ours = {process.pid for process in self._ours()}
        for process in psutil.process_iter():
            with suppress(psutil.Error):  # gone meanwhile, or somebody else's
                program, *words = process.cmdline() or [""]
                if process.pid in ours or not program.endswith("haproxy"):
                    continue
                for option, configuration in itertools.pairwise(words):
                    if option == "-f" and configuration.startswith(self._mark):
                        found[process.pid] = [program, "-db", "-f", configuration]
        return found

    def _until_one_ends(self, pids: list[int]) -> None:
        """Returns when one of the processes has ended, or it is time for another look."""
        watched: list[int] = []
        poll = select.poll()
        try:
            for pid in pids:
                watched.append(os.pidfd_open(pid))
                poll.register(watched[-1], select.POLLIN)
            poll.poll(self._look_s * 1000)
        except ProcessLookupError:
            return
        finally:
            for descriptor in watched:
                os.close(descriptor)
