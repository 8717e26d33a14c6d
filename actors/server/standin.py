"""A stand-in for HAProxy: it answers clients while Ray Serve makes a new one.

Serve notices a dead HAProxy after three failed health checks, and then makes a new process around a
new HAProxy: for seconds no client gets an answer. But the configuration of HAProxy and the gateways
still exist. So the process that started the server watches HAProxy: on Linux the kernel reports its
end at once (`greenroom.machine`), and the watcher starts another one with the same configuration.
When Serve's next HAProxy runs, the stand-in takes no new connections, and ends with its last one.

Both listen on the same port for a moment, so Serve's HAProxy must use SO_REUSEPORT
(`greenroom.environment`).
"""

from __future__ import annotations

import itertools
import logging
import signal
import subprocess
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from greenroom.machine import wait_until_one_ends

log = logging.getLogger("greenroom.standin")

LOOK_S = 0.5
"""The seconds between two looks for unknown processes."""
QUIET_LOOKS = 20
"""The number of looks that are left out while HAProxy is well."""
SETTLED_LOOKS = 2
"""The number of successive looks that must find Serve's HAProxy before the stand-in leaves."""


class StandIn:
    """Watches the HAProxy whose configuration is below a directory.

    Args:
        folder: the directory; only this server's HAProxy has its configuration below it.
        look_s: seconds between two looks, see `LOOK_S`.

    Attributes:
        command: starts an HAProxy like Serve's; empty until that was seen.
        process: the stand-in that takes connections; None: there is none.
    """

    def __init__(self, folder: Path, *, look_s: float = LOOK_S) -> None:
        self._mark = f"{folder}/"
        self._look_s = look_s
        self.command: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None
        self._leaving: list[subprocess.Popen[bytes]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="standin", daemon=True)

    def start(self) -> None:
        """Begins to watch; HAProxy need not run yet."""
        self._thread.start()

    def stop(self) -> None:
        """Stops watching and kills the stand-in if there is one."""
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
                self.command = next(iter(theirs.values()))
                if self.process is not None and seen >= SETTLED_LOOKS:
                    self._leave()
                # A look reads the command of every process of the machine.
                looks = QUIET_LOOKS if self.process is None else 1
                self._wait(theirs, looks)
                continue
            seen = 0
            if self.command and (self.process is None or self.process.poll() is not None):
                self._stand_in()
            self._over.wait(self._look_s)

    def _wait(self, theirs: Iterable[int], looks: int) -> None:
        """Returns when one of the processes has ended, or when a new look is due."""
        for _ in range(looks):
            if self._over.is_set() or wait_until_one_ends([*theirs], self._look_s):
                return

    def _stand_in(self) -> None:
        log.warning("HAProxy is gone; another one stands in until Ray Serve has made a new one.")
        with suppress(OSError):  # the configuration is gone: the server is stopping
            self.process = subprocess.Popen(
                self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )

    def _leave(self) -> None:
        """Makes the stand-in take no new connections; it ends itself when it has none left."""
        assert self.process is not None
        self.process.send_signal(signal.SIGUSR1)
        self._leaving = [each for each in self._ours() if each.poll() is None]
        self.process = None

    def _ours(self) -> list[subprocess.Popen[bytes]]:
        return [*self._leaving, *([self.process] if self.process is not None else [])]

    def _theirs(self) -> dict[int, list[str]]:
        """Returns Serve's HAProxies: the command that starts an equal one, by process id."""
        found: dict[int, list[str]] = {}
        ours = {process.pid for process in self._ours()}
        for process in psutil.process_iter():
            with suppress(psutil.Error):  # the process has ended, or belongs to another user
                program, *words = process.cmdline() or [""]
                if process.pid in ours or not program.endswith("haproxy"):
                    continue
                for option, configuration in itertools.pairwise(words):
                    if option == "-f" and configuration.startswith(self._mark):
                        found[process.pid] = [program, "-db", "-f", configuration]
        return found
