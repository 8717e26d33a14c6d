"""Fault points: named places at which a test can stop the world, at the exact await.

A place is a line ``await faults.at("started")`` in the code whose failure matters there. Whoever is
built gets the faults as a parameter; in production that is `NO_FAULTS`, which does nothing. Tests
give a `Staged`, a directory shared with the processes of a real server:

    <place>            what is to happen there, once: ``kill``, ``raise`` or ``block``
    <place>.reached    it happened; ``block`` goes on when ``<place>.go`` is there

Places of the registry, in the life of a run:

    admit     before the admission is written        end         before the end is written
    admitted  written, not ordered, not answered     ended       written; nobody has heard, and the
    start     before an attempt is written                       next run is not started
    started   written, not ordered                   roll_back   before checkpoints are taken back
    requeue   a death is known, not written          rolled_back taken back, the end is not written
    requeued  written, no next attempt               stop        a cancel is told and written, not
                                                                 answered

Places of a run actor:

    attempt   the order is there, nothing was done   resume      the same, of a second attempt
    saving    events are kept, nothing is saved      saved       a checkpoint is durable
    save      a checkpoint is about to be saved
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
    """What may happen at named places."""

    async def at(self, place: str) -> None:
        """The code has come to a place."""
        ...


class InjectedFault(Exception):
    """What a test asked for."""


@dataclass(frozen=True, slots=True)
class NoFaults:
    """Nothing ever happens."""

    async def at(self, place: str) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Staged:
    """What the files of a directory say."""

    directory: Path

    async def at(self, place: str) -> None:
        plan, reached = self.directory / place, self.directory / f"{place}.reached"
        try:
            # Whoever renames it is the one to whom it happens.
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
