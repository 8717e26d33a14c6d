"""The server of a room as a child process, which ends with the process that started it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from greenroom.core.errors import ConfigurationError, GreenroomError
from greenroom.environment import free_block
from greenroom.settings import variable

START_PATIENCE_S = 180.0
STOP_PATIENCE_S = 30.0
LOOK_S = 0.05
COLORFUL = frozenset({"FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE"})
"""Kernels set some of them for their own output; the room reads the output of its server."""
READY = " serves "
ERROR = "Error: "

Progress = Callable[[str], None]
"""Is told the step that begins."""


class Child:
    """A `greenroom serve` that runs until `stop` is called or this process ends.

    Args:
        data_dir: the server's data directory, which also has its log.
        temporary: delete the directory at the end.
        settings: the settings that differ from the environment's, by name.
    """

    def __init__(self, data_dir: Path, settings: Mapping[str, Any], *, temporary: bool) -> None:
        port = free_block(1)[0]
        self.url = f"http://127.0.0.1:{port}"
        file = data_dir / "server.log"
        given = {"data_dir": data_dir, "host": "127.0.0.1", "port": port, **settings}
        with file.open("wb") as log:
            # Opened now: the child may take the directory along, and why is what we want to know.
            self._log = file.open(errors="replace")
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "greenroom.room_server"),
                    *([str(data_dir)] if temporary else []),
                ],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Interrupting a cell must not end it; a kernel's end is seen by the pipe.
                start_new_session=True,
                env={name: value for name, value in os.environ.items() if name not in COLORFUL}
                | {variable(name): str(value) for name, value in given.items()},
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def wait_until_ready(self, progress: Progress) -> None:
        """Waits until the server answers and its actors are warm.

        Raises:
            GreenroomError: the server could not start; the message is the server's.
        """
        deadline_s = time.monotonic() + START_PATIENCE_S
        lines: list[str] = []
        begun = ""
        while time.monotonic() < deadline_s:
            alive = self.alive
            *whole, begun = (begun + self._log.read()).split("\n")
            for line in whole:
                lines.append(line)
                if line.endswith(" ..."):
                    progress(line.removesuffix(" ..."))
                if READY in line:
                    return
            if not alive:
                raise GreenroomError(_reason(lines))
            time.sleep(LOOK_S)
        self.stop()
        raise GreenroomError(f"The server was not ready within {START_PATIENCE_S:g} s.")

    def stop(self) -> None:
        """Ends the server and everything that it has started."""
        with suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            self._process.wait(STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._log.close()


def find_on_cluster(address: str, namespace: str) -> dict[str, str] | None:
    """Finds the Greenroom server in a namespace of a Ray cluster.

    Returns:
        the server's ``url`` and ``dsn``, or None if there is no server.

    Raises:
        ConfigurationError: the cluster cannot be reached.
    """
    # In a process of its own: Ray is not to be imported in a notebook's kernel.
    found = subprocess.run(
        [sys.executable, "-P", "-m", "actors.server.finding", address, namespace],
        capture_output=True,
        text=True,
        timeout=START_PATIENCE_S,
        check=False,
    )
    if found.returncode != 0:
        said = found.stderr.strip().splitlines()
        raise ConfigurationError(
            f"The Ray cluster {address!r} cannot be reached: {said[-1] if said else 'no reason'}."
        )
    return json.loads(found.stdout.splitlines()[-1])


def _reason(lines: list[str]) -> str:
    for line in reversed(lines):
        if line.startswith(ERROR):
            return line.removeprefix(ERROR)
    return "The server has ended: " + " ".join(lines[-3:])
