"""Answers the items of a call, each as soon as its work is done.

Many items travel in one call (`greenroom.core.batching`). An item that waits for a lock in the
database or for an actor must not hold up the others. So a call answers the items that are done
within a moment, and says of the others that their work is in progress. The caller asks for those
again by the same key, and waits for the same work. Each key has at most one work in progress.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable, Sequence
from typing import Any, Generic, TypeVar

from greenroom.core.errors import Fenced

T = TypeVar("T")

ANSWER_WAIT_S = 0.25
"""How long a call waits for the slowest of its items."""
ANSWERS_KEPT = 10_000
"""How many answers are remembered for callers that ask again. They ask again within 30 seconds."""


class Remembered(Generic[T]):
    """Given answers by key; the oldest ones are forgotten."""

    def __init__(self) -> None:
        self._answers: OrderedDict[Hashable, T] = OrderedDict()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._answers

    def find(self, key: Hashable) -> T | None:
        """Returns the answer that was given for the key, or None."""
        return self._answers.get(key)

    def remember(self, key: Hashable, answer: T) -> None:
        """Remembers an answer."""
        self._answers[key] = answer
        if len(self._answers) > ANSWERS_KEPT:
            self._answers.popitem(last=False)


class Pending(Generic[T]):
    """Work in progress, by key.

    Args:
        start: executes a coroutine as a task that no other code cancels.
    """

    def __init__(self, start: Callable[[Coroutine[Any, Any, T]], asyncio.Task[T]]) -> None:
        self._start = start
        self._tasks: dict[Hashable, asyncio.Task[T]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def get(self, key: Hashable) -> asyncio.Task[T] | None:
        """Returns the work of a key that is in progress, or None."""
        return self._tasks.get(key)

    def begin(self, key: Hashable, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Starts the work of a key that has none."""
        task = self._tasks[key] = self._start(work)
        task.add_done_callback(lambda _: self._tasks.pop(key, None))
        return task


async def answers(
    tasks: Sequence[asyncio.Task[T]], wait_s: float = ANSWER_WAIT_S
) -> list[T | None]:
    """Returns the results of tasks, in order; None for a task that is not done in time.

    None also stands for a failed task: its work is vital, so this process is about to end, and the
    caller asks the next process.

    Args:
        wait_s: the longest wait in seconds.

    Raises:
        Fenced: another registry has superseded this process.
    """
    if tasks:
        await asyncio.wait(tasks, timeout=wait_s)
    return [_result(task) for task in tasks]


def _result(task: asyncio.Task[T]) -> T | None:
    if not task.done() or task.cancelled():
        return None
    try:
        return task.result()
    except Fenced:
        raise
    except Exception:  # noqa: BLE001 - it was logged where the task was started
        return None
