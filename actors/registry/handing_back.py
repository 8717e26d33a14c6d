"""Hands the runs that a draining registry leaves behind to the next one."""

from __future__ import annotations

import asyncio

from actors.registry.context import Context
from greenroom.core.lifecycle import Event
from greenroom.persistence import journal

PATIENCE_S = 1.0
"""How long it waits for the database to store that runs were cut off."""


async def hand_back(context: Context) -> int:
    """Cuts off the runs that have not stopped in time; returns their number.

    By this registry: the next one would take it for the death of their processes.
    """
    late = [run for run in context.runs.executed() if not run.is_ending]
    for run in late:
        run.life.on(Event.HANDED_BACK)
    requeues = [
        context.journal.write(
            journal.requeue(run.run_id, run.attempt, "cut off"),
            key=run.thread_id,
            patience_s=PATIENCE_S,
        )
        for run in late
    ]
    await asyncio.gather(*requeues)
    return len(late)
