"""What callers use, counted by one gateway, with what the other gateways say of theirs.

A gateway with requests tells the others what it has counted, and hears their counts, every
`TELL_S`. So with several gateways a caller may exceed a limit by what the others take in that time.
"""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import contextmanager

from greenroom.core.errors import GreenroomError, TooManyRequests
from greenroom.core.limits import Limits, Rate, Usage, UsageRecords, Window

log = logging.getLogger("greenroom.usage")

TELL_S = 0.5
"""The pause between two exchanges of counts with the other gateways."""


class CallerUsage:
    """What the callers of this gateway use, and what the other gateways say of theirs.

    Args:
        limits: the limits of each caller; None: none.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits = limits or Limits()
        self._gateway = uuid.uuid4().hex
        self._windows: dict[str, Window] = {}
        if limits.requests is not None:
            self._windows["requests"] = Window(limits.requests)
        if limits.body_bytes is not None:
            self._windows["body-bytes"] = Window(limits.body_bytes)
        self._open: Counter[str] = Counter()
        self._open_elsewhere: dict[str, int] = {}
        self._creating: dict[str, set[str]] = {}
        self._told_s = -math.inf
        self._is_telling = False

    def check(self, caller: str, *, body_bytes: int, opens: bool) -> None:
        """Checks a request before it is executed.

        Args:
            caller: of `caller_of`.
            body_bytes: the declared size of the body; 0 if it is not declared.
            opens: whether the answer stays open.

        Raises:
            TooManyRequests: a limit is reached.
        """
        for kind, window in self._windows.items():
            amount = 1 if kind == "requests" else body_bytes
            wait_s = window.wait_s(caller, amount, time.time())
            if wait_s > 0:
                what = "requests" if kind == "requests" else "bytes of request bodies"
                raise TooManyRequests(
                    f"You have sent as many {what} as you may: {_spoken(window.rate)}"
                    f" ({_setting(kind)}). Try again in {math.ceil(wait_s)} s.",
                    math.ceil(wait_s),
                )
        most = self.limits.streams
        if opens and most is not None and self._opened(caller) >= most:
            raise TooManyRequests(
                f"You have {most} answers open at once, and may have no more (limit_streams): end a"
                " stream, or wait for a run to end."
            )

    def count(self, caller: str, kind: str, amount: int) -> None:
        """Counts requests or bytes."""
        if kind in self._windows and amount:
            self._windows[kind].add(caller, amount, time.time())

    def open(self, caller: str) -> None:
        self._open[caller] += 1

    def close(self, caller: str) -> None:
        self._open[caller] -= 1
        if not self._open[caller]:
            del self._open[caller]

    def headers(self, caller: str) -> dict[str, str]:
        """Returns the headers that say how much is left."""
        if not self._windows:
            return {}
        now_s = time.time()
        left = {kind: window.remaining(caller, now_s) for kind, window in self._windows.items()}
        return {
            "ratelimit-policy": ", ".join(
                f'"{kind}";q={window.rate.amount};w={window.rate.period_s}'
                for kind, window in self._windows.items()
            ),
            "ratelimit": ", ".join(
                f'"{kind}";r={left[kind]};t={window.reset_s(now_s)}'
                for kind, window in self._windows.items()
            ),
        }

    @contextmanager
    def creating(
        self, caller: str, run_ids: Iterable[str]
    ) -> Generator[tuple[frozenset[str], frozenset[str]]]:
        """Notes that runs are being created.

        Gives those of them that were not noted yet, and the caller's runs that were noted before.
        """
        under_way = self._creating.setdefault(caller, set())
        earlier = frozenset(under_way)
        new = frozenset(run_ids) - earlier
        under_way |= new
        try:
            yield new, earlier
        finally:
            under_way -= new
            if not under_way:
                self._creating.pop(caller, None)

    def is_due(self) -> bool:
        """Whether the other gateways should be told again."""
        return not self._is_telling and time.monotonic() - self._told_s >= TELL_S

    async def tell(self, records: UsageRecords) -> None:
        """Tells the other gateways what this one has counted, and hears their counts.

        Without a database this gateway goes on with what it knows.
        """
        self._is_telling = True
        try:
            now_s = time.time()
            own: Usage = {("streams", caller, 0): n for caller, n in self._open.items()}
            for kind, window in self._windows.items():
                own |= {(kind, *at): amount for at, amount in window.own(now_s).items()}
            oldest = {
                kind: int(now_s // window.rate.period_s) - 1
                for kind, window in self._windows.items()
            }
            others = await records.share_usage(self._gateway, own, oldest=oldest)
            for kind, window in self._windows.items():
                window.hear({(c, p): n for (k, c, p), n in others.items() if k == kind})
            self._open_elsewhere = {c: n for (k, c, _), n in others.items() if k == "streams"}
        except GreenroomError as error:
            log.warning("The other gateways are told later.", extra={"reason": error.message})
        finally:
            self._told_s = time.monotonic()
            self._is_telling = False

    def _opened(self, caller: str) -> int:
        return self._open[caller] + self._open_elsewhere.get(caller, 0)


def _setting(kind: str) -> str:
    return f"limit_{kind.replace('-', '_')}"


def _spoken(rate: Rate) -> str:
    units = {1: "second", 60: "minute", 3600: "hour", 86_400: "day"}
    return f"{rate.amount} in a {units[rate.period_s]}"
