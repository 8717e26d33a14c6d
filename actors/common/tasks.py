"""Background tasks that the garbage collector does not lose and whose failures are logged."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from greenroom.core.errors import Fenced
from greenroom.core.waiting import cancelled

log = logging.getLogger("greenroom.tasks")

EXIT_BROKEN = 70
"""The exit code after vital work failed; Ray restarts the process, and it recovers."""

T = TypeVar("T")


def end_process() -> None:
    """Ends this process at once, because its state is no longer reliable."""
    os._exit(EXIT_BROKEN)


class Tasks:
    """Keeps references to tasks until they are done, and logs their failures.

    Args:
        on_broken: called when vital work has failed.

    Attributes:
        running: the tasks that are not done.
    """

    def __init__(self, on_broken: Callable[[], None] = end_process) -> None:
        self.running: set[asyncio.Task[Any]] = set()
        self._on_broken = on_broken

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Runs ``work`` in the background; a failure is logged."""
        task = self._run(work)
        task.add_done_callback(self._log_failure)
        return task

    def vital(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Runs work that must not stop half-way: a failure calls ``on_broken``.

        A caller that awaits the task shields it, so that a cancelled caller does not cancel the
        work.
        """
        task = self._run(work)
        task.add_done_callback(self._end_if_failed)
        return task

    def broken(self, error: BaseException) -> None:
        """Logs the failure of vital work and calls ``on_broken``."""
        log.critical("Vital work failed; the process ends: %r", error, exc_info=error)
        self._on_broken()

    async def close(self) -> None:
        """Cancels all running tasks except the caller's and waits until they have ended."""
        while running := [task for task in self.running if task is not asyncio.current_task()]:
            await cancelled(running)

    def _run(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        return task

    def _log_failure(self, task: asyncio.Task[Any]) -> None:
        error = _failure(task)
        if error is not None:
            log.error("background work failed: %r", error, exc_info=error)

    def _end_if_failed(self, task: asyncio.Task[Any]) -> None:
        error = _failure(task)
        if error is not None:
            self.broken(error)


def _failure(task: asyncio.Task[Any]) -> BaseException | None:
    """Returns a task's failure; a cancelled or superseded (`Fenced`) task has none."""
    error = None if task.cancelled() else task.exception()
    return None if isinstance(error, Fenced) else error
