"""Answers to the items of a call, each as soon as it is there.

Many items travel in one call (`greenroom.core.batching`), and one that waits, for a lock in the
database or for an actor, must not hold up the others. So a call answers what is done within a
moment, and says of the rest that it is still being worked on: the caller asks for that again, by
the same key, and waits for the same work. Nothing is done twice for one key at a time.
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
    """Answers that were given, by key; the oldest ones are forgotten."""

    def __init__(self) -> None:
        self._answers: OrderedDict[Hashable, T] = OrderedDict()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._answers

    def find(self, key: Hashable) -> T | None:
        """The answer that was given for the key, if it is remembered."""
        return self._answers.get(key)

    def remember(self, key: Hashable, answer: T) -> None:
        """An answer is given."""
        self._answers[key] = answer
        if len(self._answers) > ANSWERS_KEPT:
            self._answers.popitem(last=False)


class Pending(Generic[T]):
    """Work that is under way, by key.

    Args:
        start: runs a coroutine as a task that nobody else cancels.
    """

    def __init__(self, start: Callable[[Coroutine[Any, Any, T]], asyncio.Task[T]]) -> None:
        self._start = start
        self._tasks: dict[Hashable, asyncio.Task[T]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def get(self, key: Hashable) -> asyncio.Task[T] | None:
        """The work of a key, while it is under way."""
        return self._tasks.get(key)

    def begin(self, key: Hashable, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Starts the work of a key that has none."""
        task = self._tasks[key] = self._start(work)
        task.add_done_callback(lambda _: self._tasks.pop(key, None))
        return task


async def answers(
    tasks: Sequence[asyncio.Task[T]], wait_s: float = ANSWER_WAIT_S
) -> list[T | None]:
    """The results of tasks, in order; None for one that is not done within ``wait_s`` seconds.

    Also for one that has failed: it is vital, so this process is about to end, and whoever asks
    again asks the next one.

    Raises:
        Fenced: this process was superseded.
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
