"""Which process executes a run, and what else that process executes."""

from __future__ import annotations

from dataclasses import dataclass

from actors.common.actor_process import ActorProcess
from actors.registry.context import Context
from actors.registry.followers import stored_run
from greenroom.core.errors import RUN_NOT_FOUND, Conflict, NotFound, Unavailable
from greenroom.core.lifecycle import State

_WAITS = {
    State.DELAYED: "its time has not come",
    State.QUEUED: "another run has its thread",
    State.WAITING: "it waits for a slot",
    State.LOST: "its process is lost, and another one takes it up",
    State.ENDING: "it is ending",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Executed:
    """A run that is executed.

    Attributes:
        isolated: whether the actor never executes more than one run at a time.
        threads: the thread of each run that the actor executes, by run.
    """

    actor: str
    attempt: int
    process: ActorProcess
    isolated: bool
    threads: dict[str, str]


async def executed(context: Context, thread_id: str, run_id: str) -> Executed:
    """Returns the process of a run.

    Raises:
        NotFound: the run does not exist.
        Conflict: it is not executed; the message says why.
        Unavailable: its process is not known yet.
    """
    run = context.runs.find(run_id)
    if run is None or run.thread_id != thread_id:
        found = await stored_run(context.database, run_id)
        if found is None or found.thread_id != thread_id:
            raise NotFound(RUN_NOT_FOUND)
        raise Conflict(f"The run is over (status: {found.status}): no process executes it.")
    placement = run.placement
    if placement is None:
        why = _WAITS.get(run.life.state, "it is about to begin")
        raise Conflict(f"No process executes the run now: {why}.")
    actor = placement.actor
    pool, process = context.keeper.pools.of_actor(actor), context.keeper.processes.get(actor)
    if pool is None or process is None:
        raise Unavailable("The run's process is being replaced. Try again in a moment.")
    beside = (context.runs.find(each) for each in pool.members[actor].runs)
    return Executed(
        actor=actor,
        attempt=placement.attempt,
        process=process,
        isolated=pool.spec.isolates,
        threads={each.run_id: each.thread_id for each in (run, *beside) if each is not None},
    )
