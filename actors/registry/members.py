"""The actors of a pool, and which of them takes the next run: decisions only, no Ray.

A registry asks for every run that comes or goes, and a pool of a cluster has thousands of actors:
so these questions are answered without looking at each of them.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count

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
        number: its place among the actors of the pool, in the order in which they were made.
        runs: the ids of the runs that it executes.
        served: the number of runs that have left it.
        idle_since_s: the time since which it has no run.
    """

    name: str
    state: MemberState
    generation: int = 0
    number: int = 0
    runs: set[str] = field(default_factory=set)
    served: int = 0
    idle_since_s: float = 0.0


def slots_of(member: Member, spec: PoolSpec) -> int:
    """Returns how many runs the actor may execute at once, without those that overflow."""
    return _within_life(member, spec, spec.runs_per_actor)


class Members(Mapping[str, Member]):
    """The actors of a pool by name, and what is known of them all together. Only its methods change
    an actor.

    Attributes:
        starting: the number of actors that are starting.
        retiring: the number of actors that are retiring.
        busy: the number of actors with runs.
        left: the names of the retiring actors without runs.
        idle: the ready actors without runs, the longest idle first.
    """

    def __init__(self, spec: PoolSpec) -> None:
        self._spec = spec
        self._members: dict[str, Member] = {}
        self._numbers = count()
        self._free: dict[int, list[tuple[int, str]]] = {}
        """The ready actors with a free slot, by the number of their runs, the oldest first."""
        self.starting = self.retiring = self.busy = 0
        self.left: dict[str, None] = {}
        self.idle: dict[str, Member] = {}

    def __getitem__(self, name: str) -> Member:
        return self._members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    @property
    def ready(self) -> int:
        """The number of actors that take runs."""
        return len(self._members) - self.starting - self.retiring

    def fullest(self) -> Member | None:
        """Returns the fullest actor with a free slot, so that other actors become idle and stop.

        Of several it is the oldest.
        """
        if not self._free:
            return None
        _, name = self._free[max(self._free)][0]
        return self._members[name]

    def add(self, member: Member) -> None:
        member.number = next(self._numbers)
        self._members[member.name] = member
        self._count(member, 1)

    def remove(self, name: str) -> Member | None:
        """Removes an actor and returns it, or None if there is none of this name."""
        member = self._members.pop(name, None)
        if member is not None:
            self._count(member, -1)
        return member

    def change(self, member: Member, state: MemberState) -> None:
        self._count(member, -1)
        member.state = state
        self._count(member, 1)

    def join(self, member: Member, run_id: str) -> None:
        """Puts a run on an actor."""
        self._count(member, -1)
        member.runs.add(run_id)
        self._count(member, 1)

    def leave(self, member: Member, run_id: str, *, now_s: float) -> None:
        """Takes a run off an actor, which retires after the last run of its life."""
        self._count(member, -1)
        member.runs.discard(run_id)
        member.served += 1
        if not member.runs:
            member.idle_since_s = now_s
        if self._spec.max_runs and member.served >= self._spec.max_runs:
            member.state = MemberState.RETIRING
        self._count(member, 1)

    def _count(self, member: Member, by: int) -> None:
        """Counts an actor, or with -1 takes it out again as long as it is unchanged."""
        runs = len(member.runs)
        self.busy += by * bool(runs)
        match member.state:
            case MemberState.STARTING:
                self.starting += by
            case MemberState.RETIRING:
                self.retiring += by
                if by > 0 and not runs:
                    self.left[member.name] = None
                else:
                    self.left.pop(member.name, None)
            case MemberState.READY:
                if by > 0 and not runs:
                    self.idle[member.name] = member
                else:
                    self.idle.pop(member.name, None)
                if runs < slots_of(member, self._spec):
                    self._sort_in(member, runs, by)

    def _sort_in(self, member: Member, runs: int, by: int) -> None:
        alike, key = self._free.setdefault(runs, []), (member.number, member.name)
        if by > 0:
            insort(alike, key)
            return
        del alike[bisect_left(alike, key)]
        if not alike:
            del self._free[runs]


class Placing:
    """Places runs on the actors of a pool: in free slots, and with `overflow` beyond them.

    Args:
        members: the actors of the pool, which adds and removes them.

    Attributes:
        apart: runs that take a free slot only, and beside which no run is placed beyond the slots.
    """

    def __init__(self, spec: PoolSpec, members: Members) -> None:
        self._spec = spec
        self._members = members
        self.apart: set[str] = set()
        self._wanting: dict[str, None] = {}

    def place(self, run_id: str, *, may_share: bool) -> str | None:
        """Puts a run on an actor; returns the actor, or None if the run must wait.

        Args:
            may_share: whether it may go beyond the slots of an actor.
        """
        member = self._members.fullest()
        shares = member is None and may_share and bool(self._spec.overflow)
        if shares and run_id not in self.apart:
            member = self._to_share()
        if member is None:
            return None
        self._members.join(member, run_id)
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
        return min(len(self._wanting), self.overflowing) if self._wanting else 0

    def _to_share(self) -> Member | None:
        """Returns the actor with the fewest runs that may take one beyond its slots."""
        most = self._spec.runs_per_actor + self._spec.overflow
        may = (
            member
            for member in self._members.values()
            if member.state is MemberState.READY
            and len(member.runs) < _within_life(member, self._spec, most)
            and member.runs.isdisjoint(self.apart)
        )
        return min(may, key=lambda member: len(member.runs), default=None)


def _within_life(member: Member, spec: PoolSpec, runs: int) -> int:
    return min(runs, spec.max_runs - member.served) if spec.max_runs else runs
