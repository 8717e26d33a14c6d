"""Puts the parts of a registry together, once it has recovered.

    Inputs ──> Admissions; Endings, Effects ──> Inputs; Pauses ──> Inputs, Enforcer
    Reports ──> Losses ──> Attempts ──> Effects ──> Enforcer
       └──────────┴──────> Endings ───────^
    Crons ──> Admissions, Cancellations, ThreadOperations ──> Effects
    AssistantDeletions ──> Cancellations, ThreadOperations

An arrow is a call. `Effects` has callbacks in the other direction, because an effect begins an
attempt, an end or a deletion, and these may have effects of their own. So has `Endings`: the end of
a run may admit the next one, for what was said to it.
"""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from actors.registry.admitting import Admissions
from actors.registry.assistant_deletions import AssistantDeletions
from actors.registry.attempts import Attempts
from actors.registry.cancelling import Cancellations
from actors.registry.context import Context
from actors.registry.crons import Crons
from actors.registry.effects import Effects
from actors.registry.endings import Endings
from actors.registry.enforcing import Enforcer
from actors.registry.followers import Followers
from actors.registry.in_flight import Run
from actors.registry.inputs import Inputs
from actors.registry.losses import Losses
from actors.registry.pausing import Pauses
from actors.registry.reports import Reports
from actors.registry.thread_operations import ThreadOperations


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """The parts of a registry; each part is named after its subject."""

    context: Context
    enforcer: Enforcer
    effects: Effects
    attempts: Attempts
    endings: Endings
    losses: Losses
    followers: Followers
    reports: Reports
    admissions: Admissions
    inputs: Inputs
    pauses: Pauses
    cancellations: Cancellations
    crons: Crons
    operations: ThreadOperations
    assistant_deletions: AssistantDeletions


def parts_of(context: Context) -> Parts:
    """Makes the parts of a registry from their shared context."""

    def granted(run_id: str, actor: str) -> None:
        attempts.granted(run_id, actor)

    def end_unexecuted(run: Run) -> Coroutine[Any, Any, None]:
        return losses.end_unexecuted(run)

    def delete_remains(thread_id: str) -> Coroutine[Any, Any, None]:
        return operations.delete_remains(thread_id)

    def hand_on(run: Run) -> Coroutine[Any, Any, None]:
        return inputs.hand_on(run)

    enforcer = Enforcer(context.keeper, context.tasks, context.setup)
    effects = Effects(
        context,
        enforcer,
        granted=granted,
        end_unexecuted=end_unexecuted,
        delete_remains=delete_remains,
        hand_on=hand_on,
    )
    attempts = Attempts(context, enforcer, effects)
    endings = Endings(context, effects, hand_on=hand_on)
    losses = Losses(context, attempts, endings)
    followers = Followers(context)
    operations = ThreadOperations(context, effects, followers)
    inputs = Inputs(context, admit=lambda request, writes: admissions.follow(request, writes))
    admissions = Admissions(context, attempts, effects, inputs)
    cancellations = Cancellations(context, effects)
    return Parts(
        context=context,
        enforcer=enforcer,
        effects=effects,
        attempts=attempts,
        endings=endings,
        losses=losses,
        followers=followers,
        reports=Reports(context, followers, endings, losses),
        admissions=admissions,
        inputs=inputs,
        pauses=Pauses(context, enforcer, inputs),
        cancellations=cancellations,
        crons=Crons(context, admissions),
        operations=operations,
        assistant_deletions=AssistantDeletions(context, cancellations, operations),
    )
