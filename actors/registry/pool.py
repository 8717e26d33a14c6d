"""Which actors there are, and who works on what: decisions only, no Ray.

A pool belongs to a placement: graphs that need the same resources share warm actors. The keeper of
the pool (the registry) performs what `wanted` and `surplus` say, and tells what became of it.

    (wanted) ──> starting ──ready──> ready ──claim/release──> ready ...
                    │                  │ └─retire──> retiring ──last run ends──> (stopped)
                    └──died──> (gone) <┘ died

A run that finds no slot waits, first come first served per placement. Starts that fail are tried
again after a growing pause, so that a graph that kills its process cannot keep a machine busy with
starting actors.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from actors.common.placement import PoolSpec

START_BACKOFF_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)


class MemberState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    RETIRING = "retiring"


@dataclass(slots=True)
class Member:
    """One actor of a pool."""

    name: str
    state: MemberState
    runs: set[str] = field(default_factory=set)
    served: int = 0
    idle_since_s: float = 0.0


class ActorPool:
    """The actors of one placement and the runs that wait for one.

    Args:
        spec: the placement.
        patience_s: how long a run must have waited, or idle actors been missing, before more are
            started. Starting one takes seconds of a CPU that a burst of short runs has better use
            for: where runs get their slot sooner, more actors would only share that CPU.
        eager_limit: up to this many actors, e.g. one for each CPU, start without patience.
        warm_for_s: actors are kept warm for this long after the last run; None for always.
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
        self.members: dict[str, Member] = {}
        self.waiting: deque[str] = deque()
        self.failed_starts = 0
        self._not_before_s = 0.0

    @property
    def starts(self) -> int:
        """How many actors are being started."""
        return sum(1 for m in self.members.values() if m.state is MemberState.STARTING)

    @property
    def has_ready(self) -> bool:
        return any(member.state is MemberState.READY for member in self.members.values())

    @property
    def label(self) -> str:
        """What the metrics call it."""
        return ",".join(self.spec.graphs)

    @property
    def free_slots(self) -> int:
        """How many runs could start at once."""
        ready = (each for each in self.members.values() if each.state is MemberState.READY)
        return sum(max(0, self._slots_of(member) - len(member.runs)) for member in ready)

    # --- runs ----------------------------------------------------------------------------------

    def claim(self, run_id: str) -> str | None:
        """A slot for a run: the name of its actor, or None, and then the run waits in line."""
        self._claimed = True
        member = None if self.waiting else self._free_member()
        if member is None:
            self.waiting.append(run_id)
            return None
        self._occupy(member, run_id)
        return member.name

    def claim_again(self, run_id: str) -> str | None:
        """Like `claim`, but ahead of the line: the run had a slot and lost it with its actor."""
        self._claimed = True
        member = self._free_member()
        if member is None:
            self.waiting.appendleft(run_id)
            return None
        self._occupy(member, run_id)
        return member.name

    def adopt(self, name: str, run_ids: Iterable[str], *, now_s: float) -> None:
        """An actor that was there before the registry, with what it executes."""
        self.members[name] = Member(name, MemberState.READY, runs=set(run_ids), idle_since_s=now_s)

    def leave(self, run_id: str) -> None:
        """A waiting run is not to be executed any more."""
        if run_id in self.waiting:
            self.waiting.remove(run_id)
            self._left(run_id)

    def release(self, name: str, run_id: str, *, now_s: float) -> list[tuple[str, str]]:
        """A run has left its actor; returns who may start where: ``(run, actor)``."""
        member = self.members.get(name)
        if member is not None and run_id in member.runs:
            member.runs.discard(run_id)
            member.served += 1
            if not member.runs:
                member.idle_since_s = now_s
            if self.spec.max_runs and member.served >= self.spec.max_runs:
                member.state = MemberState.RETIRING
        return self.grants()

    def hand_on(self, name: str, run_id: str, *, now_s: float) -> list[tuple[str, str]]:
        """Like `release`, shortly before the run leaves, if somebody waits for its slot and the
        actor stays."""
        member = self.members.get(name)
        stays = member is not None and member.state is MemberState.READY and not self.spec.max_runs
        return self.release(name, run_id, now_s=now_s) if stays and self.waiting else []

    def grants(self) -> list[tuple[str, str]]:
        """Gives free slots to those who wait, in order."""
        granted: list[tuple[str, str]] = []
        while self.waiting:
            member = self._free_member()
            if member is None:
                break
            run_id = self.waiting.popleft()
            self._left(run_id)
            self._occupy(member, run_id)
            granted.append((run_id, member.name))
        return granted

    def _occupy(self, member: Member, run_id: str) -> None:
        member.runs.add(run_id)

    def _free_member(self) -> Member | None:
        """The fullest actor that still has a free slot, so that others can fall idle and go."""
        best: Member | None = None
        for member in self.members.values():
            if member.state is not MemberState.READY:
                continue
            if len(member.runs) >= self._slots_of(member):
                continue
            if best is None or len(member.runs) > len(best.runs):
                best = member
        return best

    def _slots_of(self, member: Member) -> int:
        slots = self.spec.runs_per_actor
        if self.spec.max_runs:
            slots = min(slots, self.spec.max_runs - member.served)
        return slots

    # --- actors --------------------------------------------------------------------------------

    def warm(self, *, now_s: float) -> int:
        """How many free actors to keep ready now."""
        if self._warm_for_s is None:
            return self.spec.warm
        if self._claimed or self.waiting or any(m.runs for m in self.members.values()):
            self._claimed, self._used_s = False, now_s
        return self.spec.warm if now_s - self._used_s < self._warm_for_s else 0

    def wanted(self, *, now_s: float) -> int:
        """How many actors to start now: for those who wait, and to keep ``warm`` ones free."""
        if now_s < self._not_before_s:
            return 0
        live = [m for m in self.members.values() if m.state is not MemberState.RETIRING]
        room = self.spec.max_actors - len(self.members)
        starting = self.starts
        for_waiting = -(-len(self.waiting) // self.spec.runs_per_actor)
        free = sum(1 for m in live if m.state is MemberState.READY and not m.runs)
        missing = max(0, min(room, for_waiting + self.warm(now_s=now_s) - free - starting))
        if not missing or not live:
            self._short_since_s = self._witness = None
            return missing
        if self.waiting and len(self.members) >= self._eager_limit:
            # One who waits is watched: when it gets its slot in time, nobody waited for long.
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
        """Seconds until `wanted` may say more than it just did, if that needs only time."""
        if now_s < self._not_before_s:
            return self._not_before_s - now_s
        if self._short_since_s is None:
            return None
        remaining_s = self._short_since_s + self._patience_s - now_s
        return remaining_s if remaining_s > 0 else None

    def starting(self, name: str) -> None:
        self.members[name] = Member(name, MemberState.STARTING)

    def ready(self, name: str, *, now_s: float) -> list[tuple[str, str]]:
        """An actor has loaded its graphs; returns who may start where."""
        member = self.members.get(name)
        if member is not None and member.state is MemberState.STARTING:
            member.state = MemberState.READY
            member.idle_since_s = now_s
            self.failed_starts = 0
        return self.grants()

    def died(self, name: str, *, now_s: float, blameless: bool = False) -> set[str]:
        """An actor is gone; returns the runs it took along.

        Args:
            blameless: its whole node is gone, which says nothing about how actors start.
        """
        member = self.members.pop(name, None)
        if member is None:
            return set()
        if member.state is MemberState.STARTING and not blameless:
            self.failed_starts += 1
            step = min(self.failed_starts, len(START_BACKOFF_S) - 1)
            self._not_before_s = now_s + START_BACKOFF_S[step]
        return member.runs

    def retire(self, name: str) -> None:
        """This actor gets no more runs; it goes when it is empty."""
        member = self.members.get(name)
        if member is not None:
            member.state = MemberState.RETIRING

    def surplus(self, *, now_s: float, idle_s: float) -> list[str]:
        """Actors to stop: the retired that are empty, and idle ones beyond the warm ones.

        What a retired one has executed last may not have been read to its end yet.
        """
        gone = [
            m.name for m in self.members.values() if m.state is MemberState.RETIRING and not m.runs
        ]
        idle = sorted(
            (m for m in self.members.values() if m.state is MemberState.READY and not m.runs),
            key=lambda m: m.idle_since_s,
        )
        spare = len(idle) - self.warm(now_s=now_s)
        gone += [m.name for m in idle[: max(0, spare)] if now_s - m.idle_since_s >= idle_s]
        return gone

    def stopped(self, name: str) -> None:
        """An actor was ended on purpose."""
        self.members.pop(name, None)
