"""The interfaces for what people say about runs, and for whom A2A clients want to be told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Feedback(Protocol):
    """What people say about runs, in the database."""

    async def add_feedback(
        self, run_id: str, feedback_id: str, key: str, content: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Stores feedback about a run; one with this id that is there already is returned.

        Returns:
            None if the run does not exist.

        Raises:
            Conflict: there is too much about the run.
        """
        ...

    async def list_feedback(self, run_id: str, *, limit: int, offset: int) -> list[dict[str, Any]]:
        """Returns the feedback about a run, oldest first."""
        ...


class Pushes(Protocol):
    """The push notifications of A2A tasks, in the database."""

    async def put_push(
        self,
        task_id: str,
        thread_id: str,
        config_id: str,
        content: Mapping[str, Any],
        *,
        tells: bool,
    ) -> bool:
        """Stores whom to tell about a task, or replaces that of the id; False without the task.

        Args:
            tells: the task has begun with it: its end is told even if it has come already.
        """
        ...

    async def list_pushes(self, task_id: str) -> list[dict[str, Any]]:
        """Returns the configurations of a task, oldest first, each with its ``id``."""
        ...

    async def delete_push(self, task_id: str, config_id: str) -> None:
        """Deletes a configuration; deliveries that are on their way are still made."""
        ...
