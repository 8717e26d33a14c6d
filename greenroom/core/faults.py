"""Fault points: named places at which a test can kill, fail or block the code.

A place is a line ``await faults.at("started")``. The components take the faults as a parameter. In
production the faults are `NO_FAULTS`, which does nothing. Tests pass a `Staged`, a directory shared
with the processes of a real server:

    <place>            the action at this place, performed once: ``kill``, ``raise`` or ``block``
    <place>.reached    the action was performed; ``block`` ends when ``<place>.go`` exists

Places of the registry, in the life of a run:

    admit     before the admission is written        end         before the end is written
    admitted  written, not ordered, not answered     ended       written; clients are not told, the
    start     before an attempt is written                       next run is not started
    started   written, not ordered                   roll_back   before checkpoints are rolled back
    requeue   a death is known, not written          rolled_back rolled back, the end is not written
    requeued  written, no next attempt               cancel      a cancel is told and written, not
                                                                 answered
    fire      a cron is due, nothing is decided      fired       its run is written

Places of a run actor:

    attempt   the order has arrived, nothing is done resume      the same, for a second attempt
    saving    events are kept, nothing is saved      saved       a checkpoint is durable
    values    before the thread's values are written report      values written, end not reported
    reported  reported and committed, log not closed
"""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

LOOK_AGAIN_S = 0.01


class Faults(Protocol):
    """Performs actions at named places."""

    async def at(self, place: str) -> None:
        """Performs the action of a place that the code has reached, if there is one."""
        ...


class InjectedFault(Exception):
    """The error of the action ``raise``."""


@dataclass(frozen=True, slots=True)
class NoFaults:
    """Performs no action."""

    async def at(self, place: str) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Staged:
    """Performs the actions that the files of a directory name."""

    directory: Path

    async def at(self, place: str) -> None:
        plan, reached = self.directory / place, self.directory / f"{place}.reached"
        try:
            # The process that renames the file performs the action; all others continue.
            os.rename(plan, reached)
        except FileNotFoundError:
            return
        action = reached.read_text()
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if action == "raise":
            raise InjectedFault(place)
        while not (self.directory / f"{place}.go").exists():  # noqa: ASYNC110 - a file
            await asyncio.sleep(LOOK_AGAIN_S)


NO_FAULTS: Faults = NoFaults()
