"""Limits for each caller, and the sliding windows that count what a caller uses.

A window counts in the current period and in the one before; of the latter it takes the share that
lies within the last period. So a caller cannot spend two periods' worth at a period's boundary.

Each gateway counts for itself and tells the others through the database
(`greenroom.persistence.usage`); `Window.others` is what they have told.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, Self

CallerKind = Literal["auto", "owner", "key", "address"]
"""By what requests count as one caller's; ``auto`` is the owner with auth, else the address."""

Usage = Mapping[tuple[str, str, int], int]
"""Counted amounts by kind, caller and number of the period; of open answers the period is 0."""

_PERIODS_S = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
REACH_S = 2 * max(_PERIODS_S.values())
"""The age in seconds at which no counted amount counts any more."""
_RATE = re.compile(rf"([1-9][0-9]*)/({'|'.join(_PERIODS_S)})")


@dataclass(frozen=True, slots=True)
class Rate:
    """An amount in a period, such as ``100/minute``.

    Attributes:
        amount: the largest amount.
        period_s: the period in seconds.
    """

    amount: int
    period_s: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a rate; raises ValueError with what it must be."""
        found = _RATE.fullmatch(text.strip())
        if found is None:
            units = ", ".join(_PERIODS_S)
            raise ValueError(f"a number and a unit, such as 100/minute (one of {units})")
        return cls(int(found[1]), _PERIODS_S[found[2]])


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The limits of one caller; None: no limit.

    Attributes:
        by: by what requests count as one caller's.
        requests: the rate of requests.
        body_bytes: the rate of request bodies in bytes.
        streams: answers that are open at once: streams, and answers that wait for a run.
        runs: runs that are not over.
        queued: runs that wait for a slot, for their thread or for their time.
    """

    by: CallerKind = "auto"
    requests: Rate | None = None
    body_bytes: Rate | None = None
    streams: int | None = None
    runs: int | None = None
    queued: int | None = None

    @property
    def counts_requests(self) -> bool:
        return not (self.requests is None and self.body_bytes is None and self.streams is None)

    @property
    def counts_runs(self) -> bool:
        return not (self.runs is None and self.queued is None)


class RunsOfCaller(NamedTuple):
    """How many runs of a caller are not over, and how many of these wait."""

    in_flight: int
    queued: int


class UsageRecords(Protocol):
    """What gateways tell each other of their callers, and the callers' runs."""

    async def share_usage(self, gateway: str, own: Usage, *, oldest: Mapping[str, int]) -> Usage:
        """Stores what a gateway has counted; returns the sums of all others.

        Args:
            gateway: the gateway's name.
            own: all that it has counted in the current periods, not the difference.
            oldest: the oldest period that counts, by kind.
        """
        ...

    async def runs_of_caller(self, caller: str, *, without: Set[str]) -> RunsOfCaller:
        """Counts the runs of a caller that are not over, without some."""
        ...


@dataclass(slots=True)
class _Used:
    own: dict[int, int] = field(default_factory=dict[int, int])
    others: dict[int, int] = field(default_factory=dict[int, int])

    def of(self, period: int) -> int:
        return self.own.get(period, 0) + self.others.get(period, 0)


class Window:
    """What each caller has used of a rate within the last period.

    Args:
        rate: the rate. A period is numbered by its begin since 1970, so that gateways agree on it.
    """

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._callers: dict[str, _Used] = {}

    def used(self, caller: str, now_s: float) -> float:
        """Returns the amount of the last period."""
        period, passed = self._period(now_s)
        used = self._callers.get(caller)
        return used.of(period - 1) * (1 - passed) + used.of(period) if used else 0.0

    def add(self, caller: str, amount: int, now_s: float) -> None:
        period, _ = self._period(now_s)
        own = self._callers.setdefault(caller, _Used()).own
        own[period] = own.get(period, 0) + amount

    def wait_s(self, caller: str, amount: int, now_s: float) -> float:
        """Returns the seconds until the caller may use the amount, if it uses nothing meanwhile.

        An amount above the rate is counted as the rate: it may be used once nothing else was.
        """
        period, passed = self._period(now_s)
        used = self._callers.get(caller)
        if used is None:
            return 0.0
        room = self.rate.amount - min(amount, self.rate.amount)
        before, current = used.of(period - 1), used.of(period)
        if current > room:
            # Only the next period helps, and of that the part in which `current` has faded enough.
            share = 1 - room / current
            return (1 - passed + share) * self.rate.period_s
        if before * (1 - passed) + current <= room:
            return 0.0
        return (1 - (room - current) / before - passed) * self.rate.period_s

    def remaining(self, caller: str, now_s: float) -> int:
        return max(0, math.floor(self.rate.amount - self.used(caller, now_s)))

    def reset_s(self, now_s: float) -> int:
        """Returns the whole seconds until the current period ends."""
        return math.ceil((1 - self._period(now_s)[1]) * self.rate.period_s)

    def own(self, now_s: float) -> dict[tuple[str, int], int]:
        """Returns what this gateway has counted, by caller and period; forgets old periods."""
        period, _ = self._period(now_s)
        for caller, used in list(self._callers.items()):
            for counts in (used.own, used.others):
                for old in [each for each in counts if each < period - 1]:
                    del counts[old]
            if not (used.own or used.others):
                del self._callers[caller]
        return {
            (caller, each): amount
            for caller, used in self._callers.items()
            for each, amount in used.own.items()
        }

    def hear(self, others: Mapping[tuple[str, int], int]) -> None:
        """Replaces what the other gateways have counted."""
        for used in self._callers.values():
            used.others = {}
        for (caller, period), amount in others.items():
            self._callers.setdefault(caller, _Used()).others[period] = amount

    def _period(self, now_s: float) -> tuple[int, float]:
        number, rest = divmod(now_s, self.rate.period_s)
        return int(number), rest / self.rate.period_s
