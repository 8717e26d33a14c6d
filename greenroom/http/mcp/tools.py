"""Assistants as tools: their names, and the schemas of their arguments.

A tool's name depends on its assistant alone, so it stays when other assistants come and go:

    the assistant of a graph    the graph's name; with a hash if the name has to be changed
    another assistant           its name and a hash of its id: two may have one name

A call may also use the assistant's name as LangGraph's server writes it, without a hash, as long as
one assistant has it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from mcp import types

from greenroom.core.identity import system_assistant_id
from greenroom.core.ports import (
    JsonObject,
)
from greenroom.core.searches import (
    AssistantFilter,
    Page,
)
from greenroom.http.assistants import searched
from greenroom.http.edge import Edge
from greenroom.http.mcp.messages import INVALID_PARAMS, RpcError
from greenroom.http.schemas import all_assistants, schemas_of
from greenroom.wire.encoding import dumps, is_list, is_object

PAGE = 100
"""The tools on a page of ``tools/list``."""

_LONGEST = 64
"""The longest name that the makers of models take; MCP allows 128 characters."""
_BLANK = re.compile(r"\s")
_FOREIGN = re.compile(r"[^A-Za-z0-9_.-]")
_OTHERS_SHOWN = 5

_INPUT = "input"
_DEFS = "#/$defs/"
_ANYTHING: JsonObject = {"type": "object", "properties": {}}
_MESSAGE: JsonObject = {
    "type": "string",
    "title": "Messages",
    "description": "What the user says to the assistant.",
}
_ANNOTATIONS = types.ToolAnnotations(
    readOnlyHint=False, destructiveHint=False, idempotentHint=False, openWorldHint=True
)


def tool_name(assistant: JsonObject) -> str:
    """Returns the name of an assistant's tool: 1 to 64 characters of ``A-Za-z0-9_.-``."""
    assistant_id, graph_id = str(assistant["assistant_id"]), str(assistant["graph_id"])
    if assistant_id == system_assistant_id(graph_id):
        name = _cleaned(graph_id)
        if name == graph_id and len(name) <= _LONGEST:
            return name
    else:
        name = _cleaned(str(assistant["name"]))
    digest = hashlib.sha256(assistant_id.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST - len(digest) - 1] or 'assistant'}_{digest}"


def _cleaned(name: str) -> str:
    return _FOREIGN.sub("", _BLANK.sub("_", name))


async def list_tools(edge: Edge, cursor: str | None) -> types.ListToolsResult:
    """Returns a page of the tools, the assistant that was created last first.

    Args:
        cursor: ``nextCursor`` of the page before.

    Raises:
        RpcError: the cursor is wrong.
    """
    offset = _offset(cursor)
    found = await _assistants(edge, PAGE, offset)
    schemas = await _schemas(edge, found.items)
    return types.ListToolsResult(
        tools=[_tool(one, schema) for one, schema in zip(found.items, schemas, strict=True)],
        nextCursor=str(offset + PAGE) if found.has_more else None,
    )


def _offset(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 10):
        raise RpcError(INVALID_PARAMS, "The cursor must be the nextCursor of another page.")
    return int(cursor)


def _tool(assistant: JsonObject, schema: JsonObject) -> types.Tool:
    name = str(assistant["name"])
    return types.Tool(
        name=tool_name(assistant),
        title=name,
        description=assistant.get("description") or f"Runs the assistant {name}.",
        inputSchema=_shown(schema),
        annotations=_ANNOTATIONS,
    )


async def find_tool(edge: Edge, name: str) -> JsonObject:
    """Returns the assistant that a tool runs.

    Raises:
        RpcError: there is no such tool, or several assistants have this name.
    """
    if await edge.serves(name):
        _, scope = await searched(edge, AssistantFilter(), limit=PAGE, offset=0)
        assistant = await edge.records.get_assistant(system_assistant_id(name), scope=scope)
        if assistant is not None and tool_name(assistant) == name:
            return assistant
    called: list[JsonObject] = []
    async for assistant in all_assistants(edge):
        if tool_name(assistant) == name:
            return assistant
        if _cleaned(str(assistant["name"])) == name:
            called.append(assistant)
    if not called:
        raise RpcError(INVALID_PARAMS, f"Unknown tool: {name[:255]}")
    if len(called) > 1:
        names = ", ".join(tool_name(one) for one in called[:_OTHERS_SHOWN])
        raise RpcError(
            INVALID_PARAMS,
            f"{len(called)} assistants are called {name[:255]}. Use the name of a tool: {names}.",
        )
    return called[0]


async def _assistants(edge: Edge, limit: int, offset: int) -> Page:
    where, scope = await searched(edge, AssistantFilter(), limit=limit, offset=offset)
    return await edge.records.search_assistants(
        where,
        limit=limit,
        offset=offset,
        sort_by="created_at",
        descending=True,
        scope=scope,
    )


async def input_schema(edge: Edge, assistant: JsonObject) -> JsonObject:
    """Returns the schema of the input of an assistant's graph; empty if it has none, also because
    the graph cannot be loaded."""
    (schema,) = await _schemas(edge, [assistant])
    return schema


async def _schemas(edge: Edge, assistants: Sequence[JsonObject]) -> list[JsonObject]:
    found = [schemas.get("input_schema") for schemas in await schemas_of(edge, assistants)]
    return [schema if is_object(schema) else {} for schema in found]


def graph_input(schema: JsonObject, arguments: JsonObject) -> Any:
    """Returns the graph's input for the arguments of a call.

    Args:
        schema: of the graph's input.

    Raises:
        RpcError: the graph takes a value that is no object, and there is none.
    """
    if not _takes_object(schema):
        if _INPUT not in arguments:
            raise RpcError(INVALID_PARAMS, f"The arguments must have {_INPUT}.")
        return arguments[_INPUT]
    said = arguments.get("messages")
    if isinstance(said, str) and _takes_messages(schema):
        return {**arguments, "messages": [{"role": "user", "content": said}]}
    return arguments


def _shown(schema: JsonObject) -> JsonObject:
    """Returns the schema of a tool's arguments, which are always an object."""
    if not schema:
        return _ANYTHING
    if not _takes_object(schema):
        inner = {key: value for key, value in schema.items() if key != "$defs"}
        whole: JsonObject = {
            "type": "object",
            "properties": {_INPUT: inner},
            "required": [_INPUT],
            "$defs": schema.get("$defs", {}),
        }
    elif _takes_messages(schema):
        properties = {**schema["properties"], "messages": _MESSAGE}
        required = dict.fromkeys(["messages", *schema.get("required", ())])
        whole = {**schema, "properties": properties, "required": list(required)}
    else:
        whole = {**schema, "type": "object"}
    parts = {key: value for key, value in whole.items() if key != "$defs"}
    if _DEFS.encode() in dumps(parts):
        return whole
    return parts  # the definitions of messages are long, and a model reads all of them


def _takes_object(schema: JsonObject) -> bool:
    if not schema:
        return True
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith(_DEFS):
        schema = schema.get("$defs", {}).get(reference.removeprefix(_DEFS), {})
    return schema.get("type") == "object"


def _takes_messages(schema: JsonObject) -> bool:
    """Returns whether ``messages`` is an array of messages, by their names in LangChain."""
    properties = schema.get("properties")
    messages = properties.get("messages") if is_object(properties) else None
    if not is_object(messages) or messages.get("type") != "array":
        return False
    items = messages.get("items")
    if not is_object(items):
        return False
    choices = items.get("oneOf") or items.get("anyOf") or [items]
    return is_list(choices) and any(
        is_object(one) and str(one.get("$ref", "")).endswith("Message") for one in choices
    )
