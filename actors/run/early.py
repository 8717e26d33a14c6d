"""What comes for an attempt before its start: calls of different groups have no order."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class Early(Generic[T]):
    """Remembered values by run and attempt; the oldest ones are forgotten.

    Args:
        most: how many are remembered.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._noted: OrderedDict[tuple[str, int], T] = OrderedDict()

    def __len__(self) -> int:
        return len(self._noted)

    def note(self, run_id: str, attempt: int, value: T) -> None:
        """Remembers a value for an attempt that is to come."""
        self._noted[run_id, attempt] = value
        while len(self._noted) > self._most:
            self._noted.popitem(last=False)

    def take(self, run_id: str, attempt: int) -> T | None:
        """Returns the value for an attempt that begins, and forgets it; None: there is none."""
        return self._noted.pop((run_id, attempt), None)
