"""Messages of a request as LangChain's, and answers to tool calls and interrupts.

LangChain takes OpenAI's messages as they are, so those of a chat completion keep their shape; the
items of a response are turned into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from greenroom.core.errors import InvalidRequest
from greenroom.core.ports import JsonObject
from greenroom.wire.encoding import dumps, is_list, is_object, loads
from greenroom.wire.splitting import long_integer

_ROLES = ("user", "assistant", "system", "developer", "tool")
_SYSTEM = ("system", "developer")
_KEPT = ("role", "content", "name", "tool_call_id", "tool_calls")


def chat_messages(given: Sequence[JsonObject]) -> list[JsonObject]:
    """Returns the messages of a chat completion.

    Raises:
        InvalidRequest: a message is malformed.
    """
    return [_message(each, f"messages[{i}]") for i, each in enumerate(given)]


def _message(given: JsonObject, field: str) -> JsonObject:
    role = given.get("role")
    if role not in _ROLES:
        raise InvalidRequest(f"{field}.role must be one of {', '.join(_ROLES)}.")
    content: Any = given.get("content")
    calls: Any = given.get("tool_calls")
    if calls is not None and not (is_list(calls) and all(_is_call(each) for each in calls)):
        raise InvalidRequest(
            f"{field}.tool_calls must be a list of calls of functions, each with an 'id' and a"
            " 'function' of 'name' and 'arguments'."
        )
    if content is None and role == "assistant":
        content = given.get("refusal") or ""
    if not isinstance(content, str) and not (is_list(content) and all(map(is_object, content))):
        raise InvalidRequest(f"{field}.content must be a string, or a list of parts.")
    if role == "tool" and not isinstance(given.get("tool_call_id"), str):
        raise InvalidRequest(f"{field}.tool_call_id must be the id of the call that it answers.")
    message = {key: given[key] for key in _KEPT if given.get(key) is not None}
    if role in _SYSTEM:
        message["role"] = "system"
    return {**message, "content": content}


def _is_call(call: Any) -> bool:
    function: Any = call.get("function") if is_object(call) else None
    return (
        is_object(function)
        and isinstance(call.get("id"), str)
        and isinstance(function.get("name"), str)
        and isinstance(function.get("arguments"), str)
    )


# --- items of a response --------------------------------------------------------------------------


def response_messages(given: Any, instructions: str | None) -> list[JsonObject]:
    """Returns the messages of a response's ``input``, behind its instructions.

    Raises:
        InvalidRequest: an item is malformed, or of a type that no graph here can take.
    """
    if isinstance(given, orjson.Fragment):
        given = orjson.loads(orjson.dumps(given))
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if not is_list(given) or not given:
        raise InvalidRequest("input must be a string, or a list of items that is not empty.")
    found: list[JsonObject] = []
    for i, item in enumerate(given):
        found += _messages_of(item, f"input[{i}]")
    if instructions is not None:
        found.insert(0, {"role": "system", "content": instructions})
    return found


def _messages_of(item: Any, field: str) -> list[JsonObject]:
    if not is_object(item):
        raise InvalidRequest(f"{field} must be an object.")
    match item.get("type", "message"):
        case "message":
            content: Any = item.get("content")
            if is_list(content):
                content = [_part(each, f"{field}.content[{i}]") for i, each in enumerate(content)]
            return [_message({"role": item.get("role"), "content": content}, field)]
        case "function_call":
            return [_called(item, item.get("call_id"), field)]
        case "function_call_output":
            return [_message(_answer(item.get("call_id"), item.get("output")), field)]
        case "mcp_call":
            answer = _answer(item.get("id"), item.get("output") or item.get("error") or "")
            return [_called(item, item.get("id"), field), _message(answer, field)]
        case "reasoning":
            return []  # it belongs to a model's earlier answer, and only that model could read it
        case other:
            raise InvalidRequest(
                f"{field} has the type {str(other)[:80]!r}, which graphs do not take: send"
                " messages, function_call and function_call_output."
            )


def _called(item: JsonObject, call_id: Any, field: str) -> JsonObject:
    function = {"name": item.get("name"), "arguments": item.get("arguments")}
    call = {"id": call_id, "type": "function", "function": function}
    return _message({"role": "assistant", "content": "", "tool_calls": [call]}, field)


def _answer(call_id: Any, output: Any) -> JsonObject:
    if is_list(output):
        output = [_part(each, "output") for each in output]
    return {"role": "tool", "tool_call_id": call_id, "content": output}


def _part(part: Any, field: str) -> JsonObject:
    kind = part.get("type") if is_object(part) else None
    match kind:
        case "input_text" | "output_text" | "text":
            return {"type": "text", "text": str(part.get("text", ""))}
        case "refusal":
            return {"type": "text", "text": str(part.get("refusal", ""))}
        case "input_image" if isinstance(part.get("image_url"), str):
            image = {"url": part["image_url"]}
            if part.get("detail") is not None:
                image["detail"] = part["detail"]
            return {"type": "image_url", "image_url": image}
        case "input_file" if part.get("file_id") is None:
            file = {k: v for k, v in part.items() if k != "type" and v is not None}
            return {"type": "file", "file": file}
        case "input_audio":
            return {"type": "input_audio", "input_audio": part.get("input_audio")}
        case _:
            raise InvalidRequest(
                f"{field} must be input_text, input_image with an 'image_url', or input_file with"
                f" its data or URL; ids of files name nothing here. Its type is {kind!r}."
            )


# --- what a thread is told ------------------------------------------------------------------------


def news(messages: list[JsonObject]) -> list[JsonObject]:
    """Returns the messages that a thread with a state does not have: those after the last one of
    the assistant, since clients repeat the conversation, and the system's, which may have changed.
    """
    last = max((i for i, each in enumerate(messages) if each["role"] == "assistant"), default=-1)
    return [
        each for i, each in enumerate(messages) if i > last or each["role"] == "system"
    ]  # fmt: skip


def identified(messages: list[JsonObject], run_id: str) -> list[JsonObject]:
    """Returns messages with ids: a run knows its own by them, and each message of the system takes
    the place of its predecessor in the thread."""
    found: list[JsonObject] = []
    of_system = 0
    for i, message in enumerate(messages):
        if message["role"] == "system":
            found.append({**message, "id": f"system:{of_system}"})
            of_system += 1
        else:
            found.append({**message, "id": own_id(run_id, i)})
    return found


def own_id(run_id: str, number: int) -> str:
    """Returns the id of a message that a request has brought to its run."""
    return f"{run_id}:{number}"


def resume_of(messages: list[JsonObject], interrupt_ids: list[str]) -> JsonObject:
    """Returns the answers with which a thread that waits is resumed, by the ids of its interrupts.

    Args:
        messages: the new ones: answers to tool calls, or a text that answers the only interrupt.

    Raises:
        InvalidRequest: they do not answer the interrupts.
    """
    said = [each for each in messages if each["role"] != "system"]
    answers = {
        each["tool_call_id"]: _value(_text_of(each)) for each in said if each["role"] == "tool"
    }
    texts = [_text_of(each) for each in said if each["role"] == "user"]
    if answers.keys() <= set(interrupt_ids) and bool(answers) != bool(texts):
        if answers:
            return answers
        if len(interrupt_ids) == 1:
            return {interrupt_ids[0]: _value("\n".join(texts))}
    raise InvalidRequest(
        "The thread waits for an answer. Send only that: for each call of 'interrupt' a tool"
        " message (in a response: function_call_output) with its id, which is one of"
        f" {', '.join(interrupt_ids[:10])}; or a user's text, if there is one of them."
    )


def _value(text: str) -> Any:
    """Returns the value of an answer: JSON if it is that, e.g. true, else the text."""
    if long_integer(text.encode()) is not None:
        return text
    try:
        return loads(text)
    except InvalidRequest:
        return text


def _text_of(message: JsonObject) -> str:
    content: Any = message["content"]
    if isinstance(content, str):
        return content
    return "\n".join(
        part["text"] if isinstance(part.get("text"), str) else dumps(part).decode()
        for part in content
    )
