"""Tasks, and the events of their streams, as clients see them.

All are made of a run's status and of the state that it left, so a task looks the same to the client
that waited, to one that streams, and to one that asks after a restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from a2a.compat.v0_3 import types as a2a

from greenroom.core.ports import JsonObject
from greenroom.core.runs import Outcome, RunStatus
from greenroom.http.a2a import parts
from greenroom.http.outcomes import shown_output
from greenroom.http.parameters import new_id
from greenroom.wire.encoding import dumps, is_list, is_object, loads

State = a2a.TaskState
Scope = Literal["context", "task"]

INTERRUPT = "__interrupt__"

_STATES = {
    RunStatus.PENDING: State.submitted,
    RunStatus.RUNNING: State.working,
    RunStatus.SUCCESS: State.completed,
    RunStatus.ERROR: State.failed,
    RunStatus.TIMEOUT: State.failed,
    RunStatus.INTERRUPTED: State.canceled,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """A task, and the run that works, or worked, on it at last.

    Attributes:
        task_id: the id of the task's first run.
        context_id: the thread.
        run_id: the task's newest run: another than the first once an interrupt was answered.
        message_id: the id of the message that began the task.
        is_newest: no later run is on the thread.
    """

    task_id: str
    context_id: str
    run_id: str
    message_id: str
    is_newest: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """The messages of the context that a client wants to see.

    Attributes:
        scope: the messages of the whole context, or of the task only.
        length: the number of messages, the newest ones; None for all.
    """

    scope: Scope = "context"
    length: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """A task with the state that its newest run left.

    Attributes:
        output: the run's output, parsed; None while the run is not over.
        error: the error of a failed run.
        timestamp: ISO 8601, of the status.
    """

    turn: Turn
    state: State
    output: Any = None
    error: str | None = None
    timestamp: str | None = None

    @classmethod
    def of_run(cls, turn: Turn, status: str, timestamp: str, values: Any = None) -> View:
        """Returns the view of a task whose run is not over; ``values`` are the thread's."""
        state = _STATES[RunStatus(status)]
        return cls(turn=turn, state=state, output=values, timestamp=timestamp)

    @classmethod
    def of_outcome(cls, turn: Turn, end: Outcome, timestamp: str | None = None) -> View:
        """Returns the view of a task whose run is over."""
        output = shown_output(end)
        state = _STATES[end.status]
        # The interrupts of a thread on which a later run was are not this task's.
        if state is State.completed and turn.is_newest and _interrupts(output):
            state = State.input_required
        return cls(
            turn=turn,
            state=state,
            output=output,
            error=_error(end),
            timestamp=timestamp,
        )

    def canceled(self) -> View:
        """Returns the task as one that a client has canceled while it waited."""
        return replace(self, state=State.canceled)

    def interrupt_ids(self) -> list[str]:
        """Returns the ids of the interrupts that wait for an answer."""
        if self.state is not State.input_required:
            return []
        return [str(each.get("id")) for each in _interrupts(self.output)]

    def task(self, history: History) -> a2a.Task:
        artifact = self.artifact()
        return a2a.Task(
            id=self.turn.task_id,
            context_id=self.turn.context_id,
            status=self.status(),
            history=self._history(history),
            artifacts=[artifact] if artifact is not None else None,
        )

    def status(self, message: a2a.Message | None = None) -> a2a.TaskStatus:
        """Returns the status; its message says what the client needs to know or to answer."""
        if message is None and self.error is not None:
            message = self.says([parts.text_part(self.error)])
        if message is None and self.state is State.input_required:
            message = self.says([_question(each) for each in _interrupts(self.output)])
        return a2a.TaskStatus(state=self.state, message=message, timestamp=self.timestamp or _now())

    def says(self, said: list[a2a.Part]) -> a2a.Message:
        return a2a.Message(
            role=a2a.Role.agent,
            parts=said,
            message_id=new_id(),
            task_id=self.turn.task_id,
            context_id=self.turn.context_id,
        )

    def artifact(self) -> a2a.Artifact | None:
        """Returns the result of the task's newest run; None for a run without one."""
        if self.state is State.input_required:
            return a2a.Artifact(
                artifact_id=self.turn.run_id,
                name="Interrupt",
                description="Agent requires input to continue",
                parts=[parts.data_part(_shown(each)) for each in _interrupts(self.output)],
            )
        if self.state is not State.completed:
            return None
        found = self._answer()
        if not found:
            return None
        return a2a.Artifact(
            artifact_id=self.turn.run_id,
            name="Assistant Response",
            description="The result of the task",
            parts=found,
        )

    def submitted(self, message: a2a.Message) -> a2a.Task:
        """Returns the task before its run has begun, with the message that it was given."""
        about = {"task_id": self.turn.task_id, "context_id": self.turn.context_id}
        return a2a.Task(
            id=self.turn.task_id,
            context_id=self.turn.context_id,
            status=a2a.TaskStatus(state=State.submitted, timestamp=_now()),
            history=[message.model_copy(update=about)],
        )

    def update(self, message: a2a.Message | None = None) -> a2a.TaskStatusUpdateEvent:
        return a2a.TaskStatusUpdateEvent(
            task_id=self.turn.task_id,
            context_id=self.turn.context_id,
            status=self.status(message),
            final=self.state not in (State.submitted, State.working),
        )

    def artifact_update(self) -> a2a.TaskArtifactUpdateEvent | None:
        artifact = self.artifact()
        if artifact is None:
            return None
        return a2a.TaskArtifactUpdateEvent(
            task_id=self.turn.task_id,
            context_id=self.turn.context_id,
            artifact=artifact,
            append=False,
            last_chunk=True,
        )

    def _answer(self) -> list[a2a.Part]:
        if not is_object(self.output) or "messages" not in self.output:
            output: JsonObject = self.output if is_object(self.output) else {"output": self.output}
            shown = {k: v for k, v in output.items() if k != INTERRUPT}
            # Of an older task of a context, only the messages are known.
            return [parts.data_part(shown)] if self.turn.is_newest else []
        messages = parts.messages_of(self.output)
        own = [messages[i] for i in self._own(messages)]
        for message in reversed(own):
            if parts.role_of(message) is a2a.Role.agent and (said := parts.parts_of(message)):
                return said
        return []

    def _own(self, messages: list[JsonObject]) -> range:
        """Returns the positions of the task's messages in those of its context."""
        ids = [message.get("id") for message in messages]
        first = ids.index(self.turn.message_id) if self.turn.message_id in ids else None
        if first is None:
            # An answer to an interrupt, or an input of data, is in no message.
            return range(len(messages) if self.turn.is_newest else 0)
        if self.turn.is_newest:
            return range(first, len(messages))
        for i in range(first + 1, len(messages)):
            if parts.role_of(messages[i]) is a2a.Role.user:
                return range(first, i)
        return range(first, len(messages))

    def _history(self, history: History) -> list[a2a.Message] | None:
        if history.length == 0:
            return None
        messages = parts.messages_of(self.output)
        own = self._own(messages)
        wanted = own if history.scope == "task" else range(len(messages))
        found = list(self._messages(messages, wanted, own))
        return found if history.length is None else found[-history.length :]

    def _messages(
        self, messages: list[JsonObject], wanted: range, own: range
    ) -> Iterator[a2a.Message]:
        for i in wanted:
            message = messages[i]
            said = parts.parts_of(message)
            if said:  # a call of a tool says nothing
                yield a2a.Message(
                    role=parts.role_of(message),
                    parts=said,
                    message_id=str(message.get("id") or f"{self.turn.context_id}-{i}"),
                    task_id=self.turn.task_id if i in own else None,
                    context_id=self.turn.context_id,
                )


def _interrupts(output: Any) -> list[JsonObject]:
    found: Any = output.get(INTERRUPT) if is_object(output) else None
    return [each for each in found if is_object(each)] if is_list(found) else []


def _shown(interrupt: JsonObject) -> JsonObject:
    return {"id": interrupt.get("id"), "value": interrupt.get("value")}


def _question(interrupt: JsonObject) -> a2a.Part:
    value = interrupt.get("value")
    if isinstance(value, str):
        return parts.text_part(value)
    return parts.data_part(value if is_object(value) else {"value": value})


def _error(end: Outcome) -> str | None:
    if end.error is None:
        return None
    error: Any = loads(end.error)
    if not is_object(error):
        return dumps(error).decode()
    return f"{error.get('error', 'Error')}: {error.get('message', '')}"


def _now() -> str:
    return datetime.now(UTC).isoformat()
