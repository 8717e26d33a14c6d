"""The actors of a placement and their runs: decisions only, no Ray.

A pool belongs to a placement: graphs that need the same resources share warm actors. The registry
performs the decisions of `wanted` and `surplus`, and reports the results to the pool.

    (wanted) ──> starting ──ready──> ready ──claim/release──> ready ...
                    │                  │ └─retire──> retiring ──last run ends──> (stopped)
                    └──died──> (gone) <┘ died

A run without a slot waits, first come first served per placement. With `overflow` it shares an
actor instead, beyond its slots, as long as more actors may come; the pool starts them as for a run
that waits. A run that lost its actor shares none in this way. A failed start is repeated after a
growing pause, so that a graph that kills its process cannot keep a machine busy with starts.

`ActorPool.renew` begins a new generation, since the code of the graphs has changed. The actors of
the old one execute runs until an actor of the new one is ready, and stop after their last run. If
no new one starts, because the new code is broken, they stay.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from enum import StrEnum
from itertools import islice

from actors.common.placement import PoolSpec
from actors.registry.members import Member, Members, MemberState, Placing, slots_of

START_BACKOFF_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)


class Renewal(StrEnum):
    """The state of the newest generation: its first actor starts, is ready, or did not start."""

    UNDER_WAY = "under way"
    DONE = "done"
    FAILED = "failed"


class ActorPool:
    """The actors of one placement and the runs that wait for one.

    The parameter ``now_s`` of its methods is the current time in seconds, of any monotonic clock.

    Args:
        spec: the placement.
        patience_s: how many seconds actors must be missing before more start; a pool without a
            live actor does not wait. A start takes seconds of a CPU, which a burst of short runs
            uses better: if runs get their slots sooner, more actors would only share that CPU.
        eager_limit: with so many actors, e.g. one per CPU, the patience counts from a run that
            waits, and anew when that run gets its slot; with fewer, from when actors are missing.
        warm_for_s: for how many seconds after the last run actors stay warm; None for always.

    Attributes:
        problem: why the newest actor did not start; empty once one has.
    """

    def __init__(
        self,
        spec: PoolSpec,
        *,
        patience_s: float = 0.0,
        eager_limit: int = 0,
        warm_for_s: float | None = None,
    ) -> None:
        self.spec = spec
        self._warm_for_s = warm_for_s
        self._used_s = -math.inf
        self._claimed = False
        self._eager_limit = eager_limit
        self._patience_s = patience_s
        self._short_since_s: float | None = None
        self._witness: tuple[str, float] | None = None
        self.members = Members(spec)
        self.waiting: deque[str] = deque()
        self._placing = Placing(spec, self.members)
        self.failed_starts = 0
        self.problem = ""
        self._not_before_s = 0.0
        self._generation = 0
        self._renewal: Renewal | None = None

    @property
    def starts(self) -> int:
        """The number of actors that are starting."""
        return self.members.starting

    @property
    def has_ready(self) -> bool:
        return self.members.ready > 0

    @property
    def label(self) -> str:
        """The pool's name in the metrics."""
        return ",".join(self.spec.graphs)

    @property
    def free_slots(self) -> int:
        """The number of runs that could start now."""
        ready = (each for each in self.members.values() if each.state is MemberState.READY)
        return sum(max(0, slots_of(member, self.spec) - len(member.runs)) for member in ready)

    @property
    def renewal(self) -> Renewal | None:
        """How the newest generation is getting on; None without `renew`."""
        return self._renewal

    @property
    def serves_old_code(self) -> bool:
        """Whether actors of an older generation still take runs."""
        return any(m.state is MemberState.READY and self._is_old(m) for m in self.members.values())

    # --- runs ----------------------------------------------------------------------------------

    def claim(self, run_id: str, *, apart: bool = False) -> str | None:
        """Claims a slot for a run.

        Args:
            apart: whether the run never shares an actor beyond its slots.

        Returns:
            the name of the actor; None if the run must wait, at the end of the queue.
        """
        self._claimed = True
        if apart:
            self._placing.apart.add(run_id)
        name = None if self.waiting else self._place(run_id)
        if name is None:
            self.waiting.append(run_id)
        return name

    def claim_again(self, run_id: str) -> str | None:
        """Like `claim`, but ahead of the queue and apart: the run lost its slot with its actor."""
        self._claimed = True
        self._placing.apart.add(run_id)
        name = self._place(run_id)
        if name is None:
            self.waiting.appendleft(run_id)
        return name

    def adopt(self, name: str, attempts: Mapping[str, int], *, now_s: float) -> None:
        """Adds an actor of an earlier registry.

        Args:
            attempts: the runs that it executes, each with the number of its attempt.
        """
        self.members.add(Member(name, MemberState.READY, runs={*attempts}, idle_since_s=now_s))
        self._placing.apart |= {run_id for run_id, attempt in attempts.items() if attempt > 1}

    def leave(self, run_id: str) -> None:
        """Removes a waiting run from the queue."""
        if run_id in self.waiting:
            self.waiting.remove(run_id)
            self._left(run_id)
            self._placing.forget((run_id,))

    def release(self, name: str, run_id: str, *, now_s: float) -> list[tuple[str, str]]:
        """Frees the slot of a run that has left its actor.

        Returns:
            the runs that get a slot, and their actors: ``(run, actor)``.
        """
        member = self.members.get(name)
        if member is not None and run_id in member.runs:
            self.members.leave(member, run_id, now_s=now_s)
            self._placing.forget((run_id,))
        return self.grants()

    def hand_on(self, name: str, run_id: str, *, now_s: float) -> list[tuple[str, str]]:
        """Like `release`, but shortly before the run leaves: does nothing unless a run waits for
        the slot and the actor stays."""
        member = self.members.get(name)
        stays = member is not None and member.state is MemberState.READY and not self.spec.max_runs
        return self.release(name, run_id, now_s=now_s) if stays and self.waiting else []

    def grants(self) -> list[tuple[str, str]]:
        """Gives free slots to waiting runs, in order; returns ``(run, actor)`` pairs."""
        granted: list[tuple[str, str]] = []
        while self.waiting and (name := self._place(self.waiting[0])) is not None:
            run_id = self.waiting.popleft()
            self._left(run_id)
            granted.append((run_id, name))
        return granted

    def _place(self, run_id: str) -> str | None:
        return self._placing.place(run_id, may_share=self._may_grow)

    @property
    def _may_grow(self) -> bool:
        stays = self._renewal is Renewal.FAILED and self.serves_old_code
        return bool(self.starts) or (not stays and len(self.members) < self.spec.max_actors)

    @property
    def overflowing(self) -> int:
        """The number of runs that share an actor beyond its slots."""
        return self._placing.overflowing

    # --- actors --------------------------------------------------------------------------------

    def warm(self, *, now_s: float) -> int:
        """Returns the number of free actors to keep ready now."""
        if self._warm_for_s is None:
            return self.spec.warm
        if self._claimed or self.waiting or self.members.busy:
            self._claimed, self._used_s = False, now_s
        return self.spec.warm if now_s - self._used_s < self._warm_for_s else 0

    def wanted(self, *, now_s: float) -> int:
        """Returns the number of actors to start now: for waiting runs, and to keep ``warm`` actors
        free."""
        if now_s < self._not_before_s:
            return 0
        members = self.members
        live = len(members) - members.retiring
        room = self.spec.max_actors - len(members)
        if self._renewal is Renewal.UNDER_WAY:
            # One at first, beyond the limit if need be: the actors of the old code leave for it.
            new = (m for m in members.values() if not self._is_old(m))
            return 0 if any(m.state is not MemberState.RETIRING for m in new) else 1
        if self._renewal is Renewal.FAILED and self.serves_old_code:
            return 0  # waiting runs get the slots of the old code
        for_waiting = -(-(len(self.waiting) + self._placing.unserved) // self.spec.runs_per_actor)
        coming = len(members.idle) + members.starting
        missing = max(0, min(room, for_waiting + self.warm(now_s=now_s) - coming))
        if not missing or not live:
            self._short_since_s = self._witness = None
            return missing
        if self.waiting and len(members) >= self._eager_limit:
            # Watches one waiting run: if it gets its slot in time, no earlier run waited longer.
            if self._witness is None:
                self._witness = self.waiting[-1], now_s
            _, self._short_since_s = self._witness
        elif self._short_since_s is None:
            self._short_since_s = now_s
        return missing if now_s - self._short_since_s >= self._patience_s else 0

    def _left(self, run_id: str) -> None:
        if self._witness is not None and self._witness[0] == run_id:
            self._witness = self._short_since_s = None

    def retry_after_s(self, *, now_s: float) -> float | None:
        """Returns the seconds after which `wanted` may return more; None if time alone changes
        nothing. Call it right after `wanted`."""
        if now_s < self._not_before_s:
            return self._not_before_s - now_s
        if self._short_since_s is None:
            return None
        remaining_s = self._short_since_s + self._patience_s - now_s
        return remaining_s if remaining_s > 0 else None

    def renew(self) -> None:
        """Begins a new generation: the code of the graphs has changed."""
        self._generation += 1
        self._renewal = Renewal.UNDER_WAY
        if self.spec.is_scarce:
            # There may be no room for one more, so the old ones leave first.
            for member in [*self.members.values()]:
                if member.state is MemberState.READY:
                    self.members.change(member, MemberState.RETIRING)
        self.failed_starts = 0
        self._not_before_s = 0.0

    def _is_old(self, member: Member) -> bool:
        return member.generation < self._generation

    def starting(self, name: str) -> None:
        self.members.add(Member(name, MemberState.STARTING, self._generation))

    def ready(self, name: str, *, now_s: float) -> list[tuple[str, str]]:
        """Marks an actor that has loaded its graphs; returns ``(run, actor)`` pairs to start."""
        member = self.members.get(name)
        if member is not None and member.state is MemberState.STARTING:
            member.idle_since_s = now_s
            self.members.change(member, MemberState.READY)
            self.failed_starts = 0
            if self._renewal is not None and not self._is_old(member):
                self._renewal = Renewal.DONE
            if self._renewal is Renewal.DONE:
                for each in [*self.members.values()]:
                    if each.state is MemberState.READY and self._is_old(each):
                        self.members.change(each, MemberState.RETIRING)
            self._placing.has_come(self.spec.runs_per_actor)
        return self.grants()

    def died(self, name: str, *, now_s: float, blameless: bool = False) -> set[str]:
        """Removes a dead actor; returns the runs that it executed.

        Args:
            blameless: the death does not count as a failed start, because the whole node died.
        """
        member = self.members.remove(name)
        if member is None:
            return set()
        self._placing.forget(member.runs)
        if member.state is MemberState.STARTING and not blameless:
            if self._renewal is Renewal.UNDER_WAY and not self._is_old(member):
                self._renewal = Renewal.FAILED
                if self.serves_old_code:
                    return member.runs
            self.failed_starts += 1
            step = min(self.failed_starts, len(START_BACKOFF_S) - 1)
            self._not_before_s = now_s + START_BACKOFF_S[step]
        return member.runs

    def retire(self, name: str) -> None:
        """Marks an actor for its stop: it gets no more runs and stops when it has none left."""
        member = self.members.get(name)
        if member is not None:
            self.members.change(member, MemberState.RETIRING)

    def surplus(self, *, now_s: float, idle_s: float) -> list[str]:
        """Returns the actors to stop: retiring actors without runs, and idle actors beyond the warm
        ones.

        Readers may not have read the last run of a retiring actor to its end yet.

        Args:
            idle_s: how many seconds a surplus actor must be idle.
        """
        gone = [*self.members.left]
        idle = self.members.idle
        spare = len(idle) - self.warm(now_s=now_s)
        for member in islice(idle.values(), max(0, spare)):
            if now_s - member.idle_since_s < idle_s:
                break
            gone.append(member.name)
        return gone

    def stopped(self, name: str) -> None:
        """Removes an actor that the registry has stopped."""
        self.members.remove(name)
