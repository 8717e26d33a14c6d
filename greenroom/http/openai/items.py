"""The output items of a response.

message         a text of the assistant
mcp_call        a call of a tool that the graph has answered itself, with the answer: the type of
                calls that a client does not execute
function_call   a call that waits for the client's ``function_call_output``; an interrupt is one
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from greenroom.core.ports import JsonObject
from greenroom.http.openai.outputs import Said, ToolCall
from greenroom.http.openai.states import calls_of, text_of
from greenroom.wire.encoding import dumps, is_object

_SERVER = "greenroom"


def items(said: Said) -> list[JsonObject]:
    """Returns the items of what a run has said, in their order."""
    return list(_items(said))


def _items(said: Said) -> Iterator[JsonObject]:
    answered = said.answered()
    for message in said.messages:
        if message["type"] != "ai":
            continue
        if text := text_of(message):
            yield message_item(str(message.get("id")), text)
        for call in calls_of(message):
            if (answer := answered.get(str(call.get("id")))) is not None:
                yield tool_item(answer, call)
    if said.interrupts and (question := said.answer()) is not None:
        yield question_item(said.interrupts, question)
    for waiting in said.calls():
        yield call_item(waiting)


def message_item(message_id: str, text: str, status: str = "completed") -> JsonObject:
    return {
        "id": f"msg_{message_id}",
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": [text_part(text)],
    }


def text_part(text: str) -> JsonObject:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def question_item(interrupts: list[JsonObject], question: str) -> JsonObject:
    """Returns the message with the question of interrupts."""
    return message_item(f"interrupt_{interrupts[0].get('id')}", question)


def call_item(call: ToolCall) -> JsonObject:
    return {
        "id": f"fc_{call.id}",
        "type": "function_call",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
        "status": "completed",
    }


def tool_item(answer: JsonObject, call: JsonObject | None = None) -> JsonObject:
    """Returns the item of an answered call.

    Args:
        answer: the tool's message.
        call: None: its arguments are not known yet.
    """
    content: Any = answer.get("content")
    text = content if isinstance(content, str) else dumps(content).decode()
    failed = answer.get("status") == "error"
    given: Any = call.get("args") if call is not None else None
    name = (call or {}).get("name") or answer.get("name")
    return {
        "id": str(answer.get("tool_call_id")),
        "type": "mcp_call",
        "server_label": _SERVER,
        "name": str(name),
        "arguments": dumps(given if is_object(given) else {}).decode(),
        "output": None if failed else text,
        "error": text if failed else None,
        "status": "failed" if failed else "completed",
    }
