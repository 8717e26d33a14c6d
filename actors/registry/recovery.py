"""Recovers a registry: takes the epoch, reads the runs in flight, and continues them.

    recover    opens the database, takes the epoch, adopts the living actors; may fail, and is then
               repeated
    restore    rebuilds lanes and runs from the result, in one synchronous step

Everything in a registry's memory can be rebuilt: the database has all decisions, and the actors
know what they execute.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from actors.common import metrics
from actors.common.metering import Meter
from actors.common.setup import RegistrySetup, configuration_of
from actors.registry.admitting import learn_shipped
from actors.registry.endings import End, error_json
from actors.registry.in_flight import CANCELLED, Run
from actors.registry.keeper import Keeper
from actors.registry.parts import Parts
from greenroom.core.admission import Effect
from greenroom.core.lifecycle import Life, State
from greenroom.core.runs import RunStatus
from greenroom.core.threads import resting_status
from greenroom.graphs.configuration import Configuration
from greenroom.persistence import journal
from greenroom.persistence.bulk import AT_ONCE, Bulk, Operation
from greenroom.persistence.database import Pool, open_pool
from greenroom.persistence.embedded import Embedded, start_embedded
from greenroom.persistence.journal import InFlight, Journal
from greenroom.persistence.run_inputs import runs_with_inputs

log = logging.getLogger("greenroom.registry")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recovered:
    """The result of a recovery, complete before any part of it is used.

    Attributes:
        embedded: the embedded database, which runs as long as one of its users.
        setup: the registry's set-up, with the address of the database.
        takes_shipped: as in `Context`.
        half_done: the unfinished operations of earlier registries.
        found: the runs that are not over.
        with_inputs: the runs to which something was said, and whether each is over.
        with_remains: the ids of threads that stateless runs have left with data.
        executed: the attempts that living actors execute: run → actor and attempt.
    """

    embedded: Embedded | None
    setup: RegistrySetup
    takes_shipped: bool
    keeper: Keeper
    database: Pool
    epoch: int
    journal: Journal
    bulk: Bulk
    half_done: list[Operation]
    found: list[InFlight]
    with_inputs: list[tuple[str, bool]]
    with_remains: list[str]
    executed: Mapping[str, tuple[str, int]]


async def recover(
    setup: RegistrySetup,
    meter: Meter,
    *,
    name: str,
    make_keeper: Callable[[Configuration, RegistrySetup], Keeper],
    superseded: Callable[[], None],
) -> Recovered:
    """Takes the epoch, then reads the state of the database and of the living actors.

    A failure closes everything that was opened; the caller repeats without a limit.

    Args:
        name: the registry's name, which its database connections carry.
        superseded: called when another registry has taken over.

    Raises:
        Superseded: a registry of a later generation owns this database.
        Fenced: an actor has received a call of a newer registry.
    """
    async with AsyncExitStack() as opened:
        embedded = None
        if setup.embedded is not None:
            # Attaches, or starts it again: it runs as long as one of its users does.
            embedded = await asyncio.to_thread(start_embedded, setup.embedded)
            opened.callback(embedded.release)
            setup = dataclasses.replace(setup, dsn=embedded.dsn)
        configuration = await asyncio.to_thread(configuration_of, setup)
        database = await open_pool(
            setup.dsn, application_name=f"greenroom:{name}", max_size=4 + AT_ONCE
        )
        opened.push_async_callback(database.close)
        shard = setup.shard
        async with database.connection() as connection:
            epoch = await journal.take_epoch(connection, setup.generation, shard)
            found = await journal.in_flight(connection, shard)
            with_remains = await journal.threads_with_remains(connection, shard)
            with_inputs = await runs_with_inputs(connection, shard)
        pen = Journal(
            database,
            epoch,
            superseded,
            lambda seconds: meter.observe(metrics.COMMITS, seconds),
            shard=shard,
        )
        bulk = Bulk(database, epoch, superseded, shard=shard)
        keeper = make_keeper(configuration, setup)
        opened.push_async_callback(keeper.close)
        if configuration.shipped_graphs:
            await learn_shipped(database, keeper.pools)
        await pen.commit(journal.reset_thread_statuses(shard))
        half_done = await bulk.unfinished()
        executed = await keeper.adopt(epoch)
        opened.pop_all()
    return Recovered(
        embedded=embedded,
        setup=setup,
        takes_shipped=configuration.shipped_graphs,
        keeper=keeper,
        database=database,
        epoch=epoch,
        journal=pen,
        bulk=bulk,
        half_done=half_done,
        found=found,
        with_inputs=with_inputs,
        with_remains=with_remains,
        executed=executed,
    )


def restore(parts: Parts, recovered: Recovered) -> None:
    """Rebuilds lanes and runs in one synchronous step, so that no call sees half of them."""
    context = parts.context
    tasks, lanes, keeper = context.tasks, context.lanes, context.keeper
    for thread_id in recovered.with_remains:
        tasks.spawn(parts.effects.delete_remains(thread_id))
    displaced: list[tuple[str, list[Effect]]] = []
    for found in recovered.found:
        try:
            displaced.append((found.thread_id, _take_up(parts, found)))
        except Exception as error:  # one run must not be in the way of all others
            log.exception("a run cannot be taken up", extra={"run_id": found.run_id})
            tasks.vital(_refuse_to_take_up(parts, found, error))
    for run in context.runs:
        actor = run.actor
        if actor is None:
            continue
        holds = keeper.holds(actor)
        if not holds or recovered.executed.get(run.run_id) != (actor, run.attempt):
            # An actor that lives and does not know the run never had the order.
            keeper.slots.release(run.run_id, run.graph_id, actor)
            tasks.vital(parts.losses.lost(run.run_id, actor, None, died=not holds))
    for run_id, is_over in recovered.with_inputs:
        if is_over:
            tasks.vital(parts.inputs.take_up(run_id))
        elif (said_to := context.runs.find(run_id)) is not None:
            said_to.has_inputs = True
            parts.inputs.tell(said_to)  # perhaps its actor was not told
    for run in context.runs:
        if run.pause is not None:
            parts.inputs.tell(run)  # as above
    parts.operations.take_up(recovered.half_done)
    # What was displaced before the restart and had not ended is displaced now.
    for thread_id, effects in displaced:
        tasks.vital(parts.effects.performed(lanes.of(thread_id), effects))
    for run in context.runs:
        if not keeper.pools.knows(run.graph_id):
            reason = f"The graph '{run.graph_id}' is not served any more."
            end = End(status=RunStatus.ERROR, error=error_json("GraphNotFound", reason))
            tasks.vital(parts.losses.give_up(run, end))
    for lane in lanes:
        tasks.vital(parts.effects.performed(lane, lane.resume()))


def _take_up(parts: Parts, found: InFlight) -> list[Effect]:
    """Puts a run of the database back into its lane.

    Returns:
        the effects on runs that the run displaces.

    Raises:
        IllegalTransition: another run is active on the thread.
    """
    runs = parts.context.runs
    running = found.status is RunStatus.RUNNING
    due_in_s = found.due_in_s or 0.0
    if running:
        state = State.RUNNING
    elif found.attempt:
        state = State.WAITING  # it lost its actor, and keeps the thread
    else:
        state = State.DELAYED if due_in_s > 0 else State.QUEUED
    life = Life(
        state=state,
        attempt=found.attempt,
        actor=found.actor if running else None,
        stored=found.attempt,
    )
    lane = parts.context.lanes.of(found.thread_id)
    effects = lane.restore(found.run_id, life, found.multitask_strategy)
    ticket = lane.find(found.run_id)
    assert ticket is not None
    run = Run(facts=found.facts, ticket=ticket, deaths=found.deaths, pause=found.pause)
    runs.add(run)
    if running:
        parts.enforcer.limit(run)  # anew: the registry before took its clock along
    elif state is State.DELAYED:
        parts.admissions.delay(due_in_s, run.run_id)
    else:
        runs.queue(run.run_id)
    if found.cancel is not None:
        # It was cancelled with a registry before this one; perhaps its actor was not told.
        run.cancelled_because = CANCELLED
        effects += lane.cancel(run.run_id, found.cancel)
    return effects


async def _refuse_to_take_up(parts: Parts, found: InFlight, problem: Exception) -> None:
    """Ends a run that cannot be restored, e.g. the second run that executes on a thread."""
    error = error_json("RecoveryFailed", f"The run could not be taken up again: {problem}")
    lane = parts.context.lanes.find(found.thread_id)
    busy = lane is not None and lane.has_runs
    writes = [journal.end_run(found.run_id, RunStatus.ERROR, error)]
    if not busy:
        rest = resting_status(RunStatus.ERROR, has_next=False)
        writes.append(journal.rest_thread(found.thread_id, rest, None, error))
    await parts.context.journal.commit(*writes, key=found.thread_id)
