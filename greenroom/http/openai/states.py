"""The state of a thread, as far as a conversation is about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from greenroom.core.ports import HistoryQuestion, JsonObject
from greenroom.http.creation import plain
from greenroom.http.edge import Edge
from greenroom.http.gates import reads_thread
from greenroom.wire.encoding import is_list, is_object, loads

INTERRUPT = "__interrupt__"

_TYPES = {
    "human": "human",
    "user": "human",
    "HumanMessageChunk": "human",
    "ai": "ai",
    "assistant": "ai",
    "AIMessageChunk": "ai",
    "tool": "tool",
    "ToolMessageChunk": "tool",
}
"""The messages of a conversation, by their type, or by their role where a graph keeps dicts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """A thread's state after a run.

    Attributes:
        messages: those of users, of the assistant and of tools, oldest first.
        interrupts: the questions that wait for an answer, each with ``id`` and ``value``.
        checkpoint_id: the checkpoint that has the state, if it is not the thread's newest one.
    """

    messages: list[JsonObject] = field(default_factory=list[JsonObject])
    interrupts: list[JsonObject] = field(default_factory=list[JsonObject])
    checkpoint_id: str | None = None

    def interrupt_ids(self) -> list[str]:
        return [str(each.get("id")) for each in self.interrupts]

    def last_id(self) -> str | None:
        """Returns the id of the last message."""
        return str(self.messages[-1].get("id")) if self.messages else None

    def call_ids(self) -> set[str]:
        """Returns the ids of all calls of tools."""
        return {str(call.get("id")) for each in self.messages for call in calls_of(each)}


def of_output(output: Any) -> State:
    """Returns the state that a run's output shows."""
    found: Any = output.get(INTERRUPT) if is_object(output) else None
    return State(messages=_messages(output), interrupts=_objects(found))


async def of_thread(edge: Edge, thread_id: str) -> tuple[State, str] | None:
    """Returns a thread's state and its status; None if the thread does not exist."""
    scope = await reads_thread(edge, thread_id)
    thread = await edge.records.get_thread(thread_id, scope=scope)
    if thread is None:
        return None
    return _of(thread), str(thread["status"])


async def left_by(edge: Edge, graph_id: str, thread_id: str, run_id: str) -> State | None:
    """Returns the state that a run has left, also if later runs have changed the thread; None if
    its checkpoints are gone."""
    question = HistoryQuestion(
        graph_id=graph_id, thread_id=thread_id, limit=1, metadata={"run_id": run_id}
    )
    history: Any = loads(await edge.runtime.ask(question))
    if not is_list(history) or not history:
        return None
    found: JsonObject = history[0]
    tasks = {each["id"]: each.get("interrupts") for each in _objects(found.get("tasks"))}
    checkpoint_id = plain(found.get("checkpoint")).get("checkpoint_id")
    return _of({**found, "interrupts": tasks}, checkpoint_id)


def _of(record: JsonObject, checkpoint_id: str | None = None) -> State:
    by_task = plain(record.get("interrupts"))
    interrupts = [each for asked in by_task.values() for each in _objects(asked)]
    return State(
        messages=_messages(plain(record.get("values"))),
        interrupts=interrupts,
        checkpoint_id=checkpoint_id,
    )


def _messages(values: Any) -> list[JsonObject]:
    found = _objects(values.get("messages") if is_object(values) else None)
    typed = [{**each, "type": _TYPES.get(_kind(each))} for each in found]
    return [each for each in typed if each["type"] is not None]


def _kind(message: JsonObject) -> str:
    return str(message.get("type") or message.get("role"))


def _objects(value: Any) -> list[JsonObject]:
    return [each for each in value if is_object(each)] if is_list(value) else []


def calls_of(message: JsonObject) -> list[JsonObject]:
    """Returns the calls of tools in a message of the assistant."""
    return _objects(message.get("tool_calls"))


def made_by(state: State, run_id: str, after: str | None) -> list[JsonObject]:
    """Returns the messages that a run has added.

    Args:
        after: the id of the last message before the run.
    """
    return state.messages[_begin(state.messages, run_id, after) :]


def _begin(messages: list[JsonObject], run_id: str, after: str | None) -> int:
    ids = [str(each.get("id")) for each in messages]
    own = [i for i, each in enumerate(ids) if each.startswith(f"{run_id}:")]
    if own:
        return own[-1] + 1
    if after is not None and after in ids:
        return ids.index(after) + 1
    # The graph has removed them, e.g. by a summary, or keeps no ids.
    return max((i + 1 for i, each in enumerate(messages) if each["type"] == "human"), default=0)


def text_of(message: JsonObject) -> str:
    """Returns the text of a message; blocks of text are joined."""
    content: Any = message.get("content")
    if isinstance(content, str):
        return content
    return "".join(_texts(content if is_list(content) else []))


def _texts(blocks: Iterable[Any]) -> Iterable[str]:
    for block in blocks:
        if isinstance(block, str):
            yield block
        elif is_object(block) and block.get("type") in ("text", "text_delta"):
            yield str(block.get("text") or "")
