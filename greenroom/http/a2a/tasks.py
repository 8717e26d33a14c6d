"""Tasks as runs, contexts as threads.

A task's id is the id of its first run, its context's id that of the thread. The answer to an
interrupt is another run of the same task. Each run of a task has ``{"a2a": {"task_id",
"message_id"}}`` in its metadata, so the records tell what became of a task: after a restart of the
server, and on any gateway.

A thread takes over the metadata of the run that creates it, and hands them to later runs. So the
thread is created first, without any: a run that a client of the runs API creates on it later is not
taken for the task's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from a2a.compat.v0_3 import types as a2a
from a2a.utils.errors import (
    InvalidParamsError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)

from greenroom.core.errors import Conflict, NotFound
from greenroom.core.ports import (
    JsonObject,
    StateUpdate,
)
from greenroom.core.runs import CancelRequest, Placement, RunStatus
from greenroom.http.a2a import parts
from greenroom.http.a2a.cards import input_schema
from greenroom.http.a2a.speech import Speech
from greenroom.http.a2a.task_records import OF_TASK, TaskRecords, canceled_key, not_found, task_of
from greenroom.http.a2a.views import State, Turn, View
from greenroom.http.creation import create_run
from greenroom.http.edge import Edge
from greenroom.http.gates import (
    cancels,
    makes_thread,
    reads_thread,
    updates_thread,
)
from greenroom.http.idempotency import NEW
from greenroom.http.parameters import new_id, thread_id_of
from greenroom.http.streaming import close
from greenroom.wire.dialects import Dialect
from greenroom.wire.encoding import is_object
from greenroom.wire.models import RunCreate

_TERMINAL = "The task is over and takes no more messages; send this one without a taskId."
_AT_WORK = "The task is at work; wait for its end, or cancel it, before you send it a message."
END = "__end__"
"""The node as which an update leaves nothing to do in a thread."""
Event = a2a.Task | a2a.TaskStatusUpdateEvent | a2a.TaskArtifactUpdateEvent


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """A task whose run is admitted."""

    turn: Turn
    placement: Placement | None


class Tasks:
    """The tasks of one assistant, on one mount.

    Args:
        assistant: the assistant's record.

    Attributes:
        records: the tasks that there are.
    """

    def __init__(self, edge: Edge, dialect: Dialect, assistant: JsonObject) -> None:
        self._edge = edge
        self._dialect = dialect
        self._assistant = assistant
        self._assistant_id = str(assistant["assistant_id"])
        self.records = TaskRecords(edge, self._assistant_id)

    async def send(self, message: a2a.Message, metadata: JsonObject) -> Sent:
        """Begins a task with a message, or answers the interrupt of a task with it.

        Args:
            metadata: of the request; the run gets them.

        Raises:
            A2AError: the message does not fit the task or the graph.
            GreenroomError: as of `create_run`.
        """
        waiting = await self._addressed(message)
        if waiting is not None:
            # By the ids of the interrupts and strictly, so of two answers to one question the
            # second changes nothing.
            answers = parts.answers(message, waiting.interrupt_ids())
            body = {
                "command": {"resume": answers},
                "strict_resume": True,
                "multitask_strategy": "reject",
            }
            ids = NEW.run_on(waiting.turn.context_id)
            turn = replace(waiting.turn, run_id=ids.run_id)
        else:
            if parts.wants_messages(message):
                await self._check_conversational()
            body = {"input": parts.graph_input(message), "multitask_strategy": "enqueue"}
            ids = NEW.run_on(await self._context(message.context_id))
            turn = Turn(
                task_id=ids.run_id,
                context_id=ids.thread_id,
                run_id=ids.run_id,
                message_id=message.message_id,
            )
        own: JsonObject = {"task_id": turn.task_id, "message_id": turn.message_id}
        if waiting is None:
            own["is_first"] = True
        if message.reference_task_ids:
            own["reference_task_ids"] = message.reference_task_ids
        body |= {
            "assistant_id": self._assistant_id,
            "metadata": {**metadata, **(message.metadata or {}), OF_TASK: own},
            "stream_mode": ["messages-tuple"],
            "stream_resumable": False,
            "on_disconnect": "continue",
            "if_not_exists": "create",
        }
        try:
            run = await create_run(self._edge, self._dialect, RunCreate.model_validate(body), ids)
        except Conflict:
            raise UnsupportedOperationError(_AT_WORK) from None
        return Sent(turn=turn, placement=run.created.placement)

    async def cancel(self, task_id: str, context_id: str | None) -> View:
        """Cancels the run of a task; returns when it has ended.

        A task that waits for an answer is canceled by a note at its thread, and the thread waits
        no more. The note names the run that waited, so an answer that came before it wins.

        Raises:
            TaskNotFoundError: as of `get`.
            TaskNotCancelableError: the task is over.
        """
        turn, run = await self.records.found(task_id, context_id)
        wanted = CancelRequest(thread_id=turn.context_id, run_id=turn.run_id)
        scope = await cancels(
            self._edge, turn.context_id, action="interrupt", run_ids=[turn.run_id]
        )
        try:
            if RunStatus(run["status"]).is_terminal:
                raise Conflict("The run is over.")
            await self._edge.runtime.cancel(wanted, wait=True, scope=scope)
        except NotFound:
            raise TaskNotFoundError(not_found(task_id)) from None
        except Conflict:
            view = await self.records.get(task_id, context_id)
            if view.state is State.input_required:
                return await self._give_up(view)
            over = f"The task is {view.state.value} and cannot be canceled any more."
            raise TaskNotCancelableError(over) from None
        return await self.records.get(task_id, context_id)

    async def _give_up(self, waiting: View) -> View:
        turn = waiting.turn
        note = {canceled_key(turn.task_id): turn.run_id}
        scope, _ = await updates_thread(self._edge, turn.context_id)
        await self._edge.records.patch_thread(turn.context_id, metadata=note, ttl=None, scope=scope)
        clear = StateUpdate(
            graph_id=str(self._assistant["graph_id"]),
            thread_id=turn.context_id,
            values=b"null",
            as_node=END,
        )
        # A run in flight: an answer came first, or the thread is at another task already.
        with suppress(Conflict):
            await self._edge.runtime.update_state(clear, scope=scope)
        return await self.records.get(turn.task_id, turn.context_id)

    async def ended(self, sent: Sent) -> View:
        """Waits for the end of a task's run.

        Raises:
            TaskNotFoundError: the run was deleted meanwhile.
        """
        try:
            end = await self._edge.runtime.outcome(sent.turn.run_id, sent.placement)
        except NotFound:
            raise TaskNotFoundError(not_found(sent.turn.task_id)) from None
        return View.of_outcome(sent.turn, end)

    async def events(self, sent: Sent) -> AsyncIterator[Event]:
        """Yields what happens to a task until its run ends: texts, the artifact, the end.

        An update has the whole text of the message so far, so nobody misses a part of it who comes
        later, and nobody has to piece it together when a run begins again.
        """
        batches = self._edge.runtime.events(
            sent.turn.run_id,
            placement=sent.placement,
            after=0,
            modes=None,
            with_ids=False,
            resumable=False,
        )
        working = View(turn=sent.turn, state=State.working)
        speech = Speech()
        try:
            async for batch in batches:
                if speech.hears(batch.body):
                    yield working.update(working.says([parts.text_part(speech.text)]))
        finally:
            await close(batches)
        view = await self.ended(sent)
        if (artifact := view.artifact_update()) is not None:
            yield artifact
        yield view.update()

    async def _addressed(self, message: a2a.Message) -> View | None:
        """Returns the task that waits for this message as its answer; None for a new task.

        Raises:
            TaskNotFoundError: the message names a task that does not exist.
            UnsupportedOperationError: that task takes no messages now.
        """
        if message.task_id:
            view = await self.records.get(message.task_id, message.context_id)
            if view.state in (State.submitted, State.working):
                raise UnsupportedOperationError(_AT_WORK)
            if view.state is not State.input_required:
                raise UnsupportedOperationError(_TERMINAL)
            return view
        if not message.context_id:
            return None
        thread_id = thread_id_of(self._dialect, message.context_id)
        scope = await reads_thread(self._edge, thread_id)
        thread = await self._edge.records.get_thread(thread_id, scope=scope)
        if thread is None or thread["status"] != "interrupted":
            return None
        newest = await self.records.newest(thread_id, scope)
        if newest is None or (task_id := task_of(newest).get("task_id")) is None:
            return None
        if str(newest["assistant_id"]) != self._assistant_id:
            return None
        view = await self.records.get(str(task_id), thread_id)
        return view if view.state is State.input_required else None

    # --- a new task -----------------------------------------------------------------------------

    async def _context(self, context_id: str | None) -> str:
        thread_id = thread_id_of(self._dialect, context_id) if context_id else new_id()
        scope, metadata = await makes_thread(
            self._edge, thread_id=thread_id, assistant_id=self._assistant_id
        )
        try:
            await self._edge.records.create_thread(
                thread_id,
                metadata=metadata,
                if_exists="do_nothing",
                ttl=None,
                scope=scope,
            )
        except Conflict as error:
            if scope.is_everything:
                raise UnsupportedOperationError(error.message) from None
            raise InvalidParamsError("Access denied to assistant or thread") from None
        return thread_id

    async def _check_conversational(self) -> None:
        schema = await input_schema(self._edge, self._assistant)
        properties: Any = schema.get("properties")
        if is_object(properties) and "messages" not in properties:
            raise InvalidParamsError(
                f"Assistant '{self._assistant_id}' (graph '{self._assistant['graph_id']}') takes no"
                " text and no files: the input of its graph has no 'messages'. Send a data part"
                f" with its fields instead: {', '.join(properties) or 'it has none'}."
            )
