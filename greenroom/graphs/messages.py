"""Emits the messages of a graph's stream as events, in the two forms that clients can request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from langchain_core.messages import AIMessageChunk, BaseMessage, BaseMessageChunk
from langchain_core.messages.utils import message_chunk_to_message

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
