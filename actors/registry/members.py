"""The actors of a pool, and which of them takes the next run: decisions only, no Ray."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from actors.common.placement import PoolSpec


class MemberState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    RETIRING = "retiring"


@dataclass(slots=True)
class Member:
    """One actor of a pool.

    Attributes:
        generation: the code that it has loaded, as counted by `ActorPool.renew`.
        runs: the ids of the runs that it executes.
        served: the number of runs that have left it.
        idle_since_s: the time since which it has no run.
    """

    name: str
    state: MemberState
    generation: int = 0
    runs: set[str] = field(default_factory=set)
    served: int = 0
    idle_since_s: float = 0.0


def slots_of(member: Member, spec: PoolSpec) -> int:
    """Returns how many runs the actor may execute at once, without those that overflow."""
    return _within_life(member, spec, spec.runs_per_actor)


class Placing:
    """Places runs on the actors of a pool: in free slots, and with `overflow` beyond them.

    Args:
        members: the actors of the pool, by name; the pool adds and removes them.

    Attributes:
        apart: runs that take a free slot only, and beside which no run is placed beyond the slots.
    """

    def __init__(self, spec: PoolSpec, members: Mapping[str, Member]) -> None:
        self._spec = spec
        self._members = members
        self.apart: set[str] = set()
        self._wanting: dict[str, None] = {}

    def place(self, run_id: str, *, may_share: bool) -> str | None:
        """Puts a run on an actor; returns the actor, or None if the run must wait.

        Args:
            may_share: whether it may go beyond the slots of an actor.
        """
        member = self._with_free_slot()
        shares = member is None and may_share and bool(self._spec.overflow)
        if shares and run_id not in self.apart:
            member = self._to_share()
        if member is None:
            return None
        member.runs.add(run_id)
        if shares:
            self._wanting[run_id] = None
        return member.name

    def forget(self, run_ids: Iterable[str]) -> None:
        """Forgets runs that have left."""
        for run_id in run_ids:
            self.apart.discard(run_id)
            self._wanting.pop(run_id, None)

    def has_come(self, slots: int) -> None:
        """Notes that an actor is ready: it came for the oldest of the runs that overflow.

        They stay where they are, but want no other one.
        """
        for run_id in [*self._wanting][:slots]:
            del self._wanting[run_id]

    @property
    def overflowing(self) -> int:
        """The number of runs beyond the slots of their actors."""
        most = self._spec.runs_per_actor
        return sum(max(0, len(member.runs) - most) for member in self._members.values())

    @property
    def unserved(self) -> int:
        """The number of those for which no actor has come."""
        return min(len(self._wanting), self.overflowing)

    def _with_free_slot(self) -> Member | None:
        """Returns the fullest actor with a free slot, so that other actors become idle and stop."""
        free = (m for m in self._ready if len(m.runs) < slots_of(m, self._spec))
        return max(free, key=lambda member: len(member.runs), default=None)

    def _to_share(self) -> Member | None:
        """Returns the actor with the fewest runs that may take one beyond its slots."""
        most = self._spec.runs_per_actor + self._spec.overflow
        may = (
            member
            for member in self._ready
            if len(member.runs) < _within_life(member, self._spec, most)
            and member.runs.isdisjoint(self.apart)
        )
        return min(may, key=lambda member: len(member.runs), default=None)

    @property
    def _ready(self) -> Iterator[Member]:
        return (m for m in self._members.values() if m.state is MemberState.READY)


def _within_life(member: Member, spec: PoolSpec, runs: int) -> int:
    return min(runs, spec.max_runs - member.served) if spec.max_runs else runs
