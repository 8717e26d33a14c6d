"""The tasks of the records: what became of them, also after a restart, and on any gateway."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

from a2a.utils.errors import TaskNotFoundError

from greenroom.core.access import Value
from greenroom.core.errors import NotFound
from greenroom.core.ports import JsonObject
from greenroom.core.runs import RunStatus
from greenroom.core.scopes import Scope
from greenroom.core.searches import RunFilter
from greenroom.http.a2a.listings import Listed, Listing
from greenroom.http.a2a.views import State, Turn, View
from greenroom.http.creation import plain
from greenroom.http.edge import Edge
from greenroom.http.gates import found_run, metadata_of, reads_thread
from greenroom.http.parameters import is_uuid
from greenroom.wire.encoding import is_object

OF_TASK = "a2a"
"""The key of a run's metadata."""

_SCANNED = 500
"""The most tasks that one request for a list looks at."""


class TaskRecords:
    """The tasks of one assistant that there are.

    Args:
        assistant_id: the assistant's id.
    """

    def __init__(self, edge: Edge, assistant_id: str) -> None:
        self._edge = edge
        self._assistant_id = assistant_id

    async def get(self, task_id: str, context_id: str | None) -> View:
        """Returns a task from the records.

        Raises:
            TaskNotFoundError: this assistant has no such task, or it is in another context.
        """
        turn, run = await self.found(task_id, context_id)
        return await self._view(turn, run)

    async def listed(self, wanted: Listing) -> Listed:
        """Returns a page of the assistant's tasks, the newest first."""
        where = RunFilter(
            thread_id=wanted.context_id,
            assistant_id=self._assistant_id,
            metadata={OF_TASK: {"is_first": True}},
        )
        found: list[View] = []
        offset = wanted.offset
        value: Value = {"metadata": {}, "values": {}, "status": None, "limit": 0, "offset": offset}
        scope = await self._edge.gate.allow("threads", "search", value)
        if stamped := metadata_of(value):
            where = replace(where, metadata={**stamped, **(where.metadata or {})})
        while True:
            limit = wanted.size - len(found)
            page = await self._edge.records.search_runs(
                where, limit=limit, offset=offset, descending=True, scope=scope
            )
            for first in page.items:
                offset += 1
                with suppress(TaskNotFoundError):  # deleted meanwhile
                    view = await self.get(str(first["run_id"]), None)
                    if wanted.takes(view):
                        found.append(view)
            if not page.has_more or len(found) == wanted.size:
                total = await self._edge.records.count_runs(where, scope=scope)
                return Listed(found, offset if page.has_more else None, total)
            if offset - wanted.offset >= _SCANNED:
                return Listed(found, offset, wanted.offset + _SCANNED)

    async def found(self, task_id: str, context_id: str | None) -> tuple[Turn, JsonObject]:
        """Returns a task and the record of its newest run; raises as `get` does."""
        if not is_uuid(task_id):
            raise TaskNotFoundError(not_found(task_id))
        try:
            first, thread_id = await found_run(self._edge, task_id)
        except NotFound:
            raise TaskNotFoundError(not_found(task_id)) from None
        if str(first["assistant_id"]) != self._assistant_id:
            raise TaskNotFoundError(not_found(task_id))
        scope = await reads_thread(self._edge, thread_id)
        own = task_of(first)
        if own.get("task_id") != first["run_id"] or context_id not in (None, "", thread_id):
            raise TaskNotFoundError(not_found(task_id))
        where = RunFilter(thread_id=thread_id, metadata={OF_TASK: {"task_id": own["task_id"]}})
        page = await self._edge.records.search_runs(
            where, limit=1, offset=0, descending=True, scope=scope
        )
        run = page.items[0] if page.items else first
        newest = await self.newest(thread_id, scope)
        turn = Turn(
            task_id=own["task_id"],
            context_id=thread_id,
            run_id=str(run["run_id"]),
            message_id=str(own.get("message_id")),
            is_newest=newest is None or newest["run_id"] == run["run_id"],
        )
        return turn, run

    async def newest(self, thread_id: str, scope: Scope) -> JsonObject | None:
        """Returns the newest run of a thread, of a task or not."""
        runs = await self._edge.records.list_runs(
            thread_id, limit=1, offset=0, status=None, scope=scope
        )
        return runs[0] if runs else None

    async def _view(self, turn: Turn, run: JsonObject) -> View:
        changed_at = str(run["updated_at"])
        scope = await reads_thread(self._edge, turn.context_id)
        if RunStatus(run["status"]).is_terminal:
            try:
                end = await self._edge.runtime.outcome(turn.run_id, None, over=True)
            except NotFound:
                raise TaskNotFoundError(not_found(turn.task_id)) from None
            view = View.of_outcome(turn, end, changed_at)
            if view.state not in (State.completed, State.input_required):
                return view
            thread = await self._edge.records.get_thread(turn.context_id, scope=scope)
            noted = plain((thread or {}).get("metadata")).get(canceled_key(turn.task_id))
            return view.canceled() if noted == turn.run_id else view
        thread = await self._edge.records.get_thread(turn.context_id, scope=scope)
        values = plain((thread or {}).get("values"))
        return View.of_run(turn, run["status"], changed_at, values)


def canceled_key(task_id: str) -> str:
    """Returns the key of a thread's metadata that says which waiting run of a task is canceled."""
    return f"a2a_canceled_{task_id}"


def not_found(task_id: str) -> str:
    return f"Task not found: {task_id[:255]}"


def task_of(run: JsonObject) -> JsonObject:
    """Returns what the metadata of a run say of its task; empty if it is of none."""
    found: Any = plain(run.get("metadata")).get(OF_TASK)
    return found if is_object(found) else {}
