"""Parts of A2A messages: a graph's input, the answer to an interrupt, and a graph's messages."""

from __future__ import annotations

from typing import Any

from a2a.compat.v0_3 import types as a2a
from a2a.utils.errors import InvalidParamsError

from greenroom.core.ports import JsonObject
from greenroom.wire.encoding import is_list, is_object

_ROLES = {"human": a2a.Role.user, "ai": a2a.Role.agent, "AIMessageChunk": a2a.Role.agent}
"""The types of messages that clients see; system and tool messages are a graph's own."""

_MIXED = "An answer has either text and file parts, or data parts; send one kind of them."


def wants_messages(message: a2a.Message) -> bool:
    """Returns whether a message has parts that need ``messages`` in the graph's input."""
    return any(not isinstance(part.root, a2a.DataPart) for part in message.parts)


def graph_input(message: a2a.Message) -> JsonObject:
    """Returns the input of a run: text and files as one message, data as keys beside it.

    Raises:
        InvalidParamsError: a data part has ``messages`` that are no list, beside other parts.
    """
    found = _data(message)
    if not wants_messages(message):
        return found
    role = "ai" if message.role is a2a.Role.agent else "human"
    said = {"role": role, "content": _content(message), "id": message.message_id}
    earlier: Any = found.get("messages", [])
    if not is_list(earlier):
        raise InvalidParamsError("'messages' of a data part must be a list beside other parts.")
    return {**found, "messages": [*earlier, said]}


def answers(message: a2a.Message, interrupt_ids: list[str]) -> JsonObject:
    """Returns the answers with which a run is resumed, by the ids of their interrupts.

    Raises:
        InvalidParamsError: the message has data parts and others, or it does not say which of
            several interrupts it answers.
    """
    is_data = not wants_messages(message)
    if not is_data and any(isinstance(part.root, a2a.DataPart) for part in message.parts):
        raise InvalidParamsError(_MIXED)
    answer: Any = _data(message) if is_data else _content(message)
    if is_data and answer and answer.keys() <= set(interrupt_ids):
        return answer
    if len(interrupt_ids) == 1:
        return {interrupt_ids[0]: answer}
    raise InvalidParamsError(
        "The task waits for several answers. Send a data part with the id of an interrupt and its"
        f" answer for each of them: {', '.join(interrupt_ids[:10])}."
    )


def _data(message: a2a.Message) -> JsonObject:
    found: JsonObject = {}
    for part in message.parts:
        if isinstance(part.root, a2a.DataPart):
            found |= part.root.data
    return found


def _content(message: a2a.Message) -> str | list[JsonObject]:
    """Returns the content of a LangChain message: a text, or blocks when there are files."""
    parts = [part.root for part in message.parts]
    if not any(isinstance(part, a2a.FilePart) for part in parts):
        return "\n".join(part.text for part in parts if isinstance(part, a2a.TextPart))
    blocks: list[JsonObject] = []
    for part in parts:
        if isinstance(part, a2a.TextPart):
            blocks.append({"type": "text", "text": part.text})
        elif isinstance(part, a2a.FilePart):
            blocks.append(_block(part))
    return blocks


def _block(part: a2a.FilePart) -> JsonObject:
    file = part.file
    kind = (file.mime_type or "").partition("/")[0]
    block: JsonObject = {"type": kind if kind in ("image", "audio", "video") else "file"}
    if isinstance(file, a2a.FileWithBytes):
        block["base64"] = file.bytes
    else:
        block["url"] = file.uri
    if file.mime_type is not None:
        block["mime_type"] = file.mime_type
    extras = {**(part.metadata or {}), **({"filename": file.name} if file.name else {})}
    return {**block, **({"extras": extras} if extras else {})}


# --- a graph's messages ---------------------------------------------------------------------------


def messages_of(values: Any) -> list[JsonObject]:
    """Returns the messages of a state that clients may see, oldest first."""
    found: Any = values.get("messages") if is_object(values) else None
    if not is_list(found):
        return []
    return [each for each in found if is_object(each) and each.get("type") in _ROLES]


def role_of(message: JsonObject) -> a2a.Role:
    return _ROLES[message["type"]]


def text_of(message: JsonObject) -> str:
    """Returns the text of a LangChain message; blocks of text are joined."""
    content: Any = message.get("content")
    if isinstance(content, str):
        return content
    blocks: list[Any] = content if is_list(content) else []
    return "".join(
        block if isinstance(block, str) else str(block.get("text") or "")
        for block in blocks
        if isinstance(block, str) or (is_object(block) and block.get("type") == "text")
    )


def parts_of(message: JsonObject) -> list[a2a.Part]:
    """Returns the text and the files of a LangChain message."""
    text = text_of(message)
    parts = [text_part(text)] if text else []
    content: Any = message.get("content")
    for block in content if is_list(content) else []:
        if is_object(block) and (file := _file(block)) is not None:
            parts.append(a2a.Part(a2a.FilePart(file=file)))
    return parts


def _file(block: JsonObject) -> a2a.FileWithBytes | a2a.FileWithUri | None:
    extras: Any = block.get("extras")
    name: Any = extras.get("filename") if is_object(extras) else None
    about: JsonObject = {
        "name": name if isinstance(name, str) else None,
        "mime_type": kind if isinstance(kind := block.get("mime_type"), str) else None,
    }
    if isinstance(data := block.get("base64"), str):
        return a2a.FileWithBytes(bytes=data, **about)
    if isinstance(url := block.get("url"), str):
        return a2a.FileWithUri(uri=url, **about)
    return None


def text_part(text: str) -> a2a.Part:
    return a2a.Part(a2a.TextPart(text=text))


def data_part(data: JsonObject) -> a2a.Part:
    return a2a.Part(a2a.DataPart(data=data))
