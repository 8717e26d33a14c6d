"""Emits the messages of a graph's stream as events, in the two forms that clients can request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast
from uuid import uuid4

import orjson
from langchain_core.messages import AIMessageChunk, BaseMessage, BaseMessageChunk
from langchain_core.messages.utils import message_chunk_to_message
from langgraph.types import Command

from greenroom.wire.encoding import dumps

Emit = Callable[[str, bytes], None]
"""Appends an event, given by name and data, to the run's log."""


class TupleMessages:
    """``messages-tuple``: events ``messages`` with ``[chunk, metadata]``."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._metadata: Any = None
        self._encoded = orjson.Fragment(b"null")

    def add(self, namespace: tuple[str, ...], message: Any, metadata: Any) -> None:
        # All tokens of a model's answer share one metadata object, ten times a token's size.
        if metadata is not self._metadata:
            self._metadata = metadata
            self._encoded = orjson.Fragment(dumps(metadata))
        name = "|".join(("messages", *namespace)) if namespace else "messages"
        self._emit(name, dumps((message, self._encoded)))


class AccumulatedMessages:
    """``messages``: every event has the whole message so far; subgraphs are not distinguished."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._announced: set[str | None] = set()
        self._partial: dict[str | None, BaseMessageChunk] = {}

    def add(self, namespace: tuple[str, ...], message: BaseMessage, metadata: Any) -> None:
        key = message.id
        if key not in self._announced:
            self._announced.add(key)
            self._emit("messages/metadata", dumps({key: {"metadata": metadata}}))
        if not isinstance(message, BaseMessageChunk):
            self._emit("messages/complete", dumps([message]))
            return
        before = self._partial.get(key)
        whole = message if before is None else before + message
        self._emit("messages/partial", dumps([message_chunk_to_message(whole)]))
        if isinstance(message, AIMessageChunk) and message.chunk_position == "last":
            self._partial.pop(key, None)
        else:
            self._partial[key] = whole


def with_ids(event: Mapping[str, Any]) -> None:
    """Gives ids to the messages without one that a node or a tool returned, in an event of them.

    The reducer of messages gives these very objects their ids, but only when the step is over, and
    clients know a message by its id. A reducer keeps an id that is there.
    """
    kind, data = event["event"], event["data"]
    if kind == "on_tool_end":
        _give_ids(data.get("output"))
    elif event.get("metadata", {}).get("langgraph_node") != event["name"]:
        return  # prompts and parsers within a node: their messages may be constants
    elif kind in ("on_chain_stream", "on_chain_end"):
        _give_ids(data.get("chunk" if kind == "on_chain_stream" else "output"))


def _give_ids(value: Any) -> None:
    if isinstance(value, BaseMessage):
        if value.id is None:
            value.id = str(uuid4())
    elif isinstance(value, Command):
        _give_ids(cast(Command[Any], value).update)
    elif isinstance(value, dict):
        for each in cast(dict[Any, Any], value).values():
            _give_ids(each)
    elif isinstance(value, list | tuple):
        for each in cast(list[Any], value):
            _give_ids(each)
