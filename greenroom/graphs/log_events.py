"""Makes the events of a thread's log from LangGraph's stream, as event streaming has them.

Their payloads are LangGraph's: the parts of ``astream(version="v2")`` pass through the transformers
with which the graph was compiled, and through the one that derives the lives of subgraphs, as in
``astream_events(version="v3")``. That method itself is not used: it executes the graph in a task of
its own and does not wait for it when it is cancelled, so a cancelled run could still write.

What differs from LangGraph is what the protocol wants (`shared` names are those of both protocols,
see `greenroom.core.thread_log`):

    values        without interrupts; messages have only the fields that say something. They come
                  after their checkpoint, though LangGraph yields them before it
    checkpoints   their ids, step and source, not the state, which is in ``values``
    messages      every event has the id of its message. Two messages of one node do not mix: only
                  then can a client tell their blocks apart
    interrupts    an event ``input.requested`` for each, once, at the end of the run
    tasks         LangGraph takes them out of its own log
"""
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, cast

from langchain_core.messages import BaseMessage
from langgraph.errors import GraphDrained
from langgraph.stream import LifecycleTransformer
from langgraph.types import Command
from pydantic import BaseModel

from greenroom.core.thread_log import INPUT_ANSWERED, INPUT_REQUESTED, event_name
from greenroom.graphs.loading import Graph
from greenroom.graphs.messages import Emit
from greenroom.graphs.resume import INTERRUPT, Tail, Told
from greenroom.graphs.taking_back import take_back
from greenroom.langgraph_internals import make_mux, taken
from greenroom.wire.encoding import dumps, is_object

MODES = frozenset(
    {"values", "updates", "messages", "tools", "checkpoints", "tasks", "custom"},
)
PAIR_S = 0.005
"""How long ``values`` wait for their checkpoint, if no other event comes. Both come in one step of
the loop; after an interrupt, and when a run is resumed, no checkpoint follows."""

_Namespace = tuple[str, ...]


def modes_of(graph: Graph) -> set[str]:
    """Returns the stream modes from which the events of a graph are made."""
    modes = set(MODES)
    for transformer in cast(Any, graph).stream_transformers or ():
        modes.update(getattr(transformer, "required_stream_modes", ()))
    return modes


class LogEvents:
    """The events of one attempt.

    Args:
        graph: the graph that is executed.
        emit: appends an event to the run's log.
        tail: the durable events of the attempts before; None for the first one.
        goes_back: the run begins at an earlier checkpoint of the thread. Then its checkpoints do
            not say their step: clients (`@langchain/react` 1.1.0) take a step that is lower than
            one before for a repetition, and go on showing the messages that the run has left
            behind.
    """

    def __init__(
        self, graph: Graph, emit: Emit, tail: Tail | None, *, goes_back: bool = False
    ) -> None:
        self._tells_step = not goes_back
        factories = [LifecycleTransformer, *(cast(Any, graph).stream_transformers or ())]
        self._mux = make_mux(factories)
        self._emit = emit
        self._tail = tail
        self._questions = _Questions(emit, tail)
        self._messages = _Messages(emit)
        self._held: tuple[_Namespace, bytes] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def begin(self, given: Any) -> None:
        """Says which interrupts a run answers, if its input is a command that names them, and that
        what the attempts before have half streamed does not count."""
        if self._tail is not None:
            await take_back(self._tail, self._emit)
        if isinstance(given, Command):
            await self._questions.answered(cast("Command[Any]", given).resume)

    async def add(self, namespace: _Namespace, mode: str, payload: Any) -> None:
        """Takes a chunk of the graph's stream."""
        payload, interrupts = parted(payload) if mode == "values" else (payload, ())
        event: dict[str, Any] = {
            "type": "event",
            "method": mode,
            "params": {
                "namespace": [*namespace],
                "timestamp": time.time_ns() // 1_000_000,
                "data": payload,
                **({"interrupts": interrupts} if interrupts else {}),
            },
        }
        await self._mux.apush(cast(Any, event))
        await self._take()
        if mode == "tasks":
            self._emit("|".join(("tasks", *namespace)), dumps(event["params"]["data"]))
        self._questions.ask(namespace, interrupts)

    async def end(self, error: BaseException | None) -> None:
        """Says how the subgraphs ended that are still open, and what is held back."""
        if isinstance(error, GraphDrained):
            self._flush()  # another attempt goes on, with the subgraphs as well
            return
        try:
            await (self._mux.aclose() if error is None else self._mux.afail(error))
        finally:
            await self._take()
            self._flush()
            self._messages.flush()
            if error is None:
                await self._questions.tell()

    async def _take(self) -> None:
        for event in taken(self._mux):
            await self._told(event)

    async def _told(self, event: Mapping[str, Any]) -> None:
        method: str = event["method"]
        params: Mapping[str, Any] = event["params"]
        namespace, data = tuple(params["namespace"]), params["data"]
        if method == "checkpoints":
            self._checkpoint(namespace, data)
            return
        self._flush()
        match method:
            case "values":
                if data or not params.get("interrupts"):
                    self._values(namespace, encoded_values(data))
            case "messages":
                self._messages.add(namespace, *data)
            case "lifecycle":
                name = event_name("lifecycle", data["namespace"])
                await self._questions.once(name, dumps(data))
            case "tools":
                self._emit(event_name("tools", namespace), dumps(data))
            case "updates" | "custom":
                self._emit("|".join((method, *namespace)), dumps(data))
            case _:
                if method.startswith("custom:"):
                    name = method.removeprefix("custom:")
                    detail = name.replace("|", "_")
                    body = dumps({"name": name, "payload": data})
                    self._emit(event_name("custom", namespace, detail=detail), body)

    def _values(self, namespace: _Namespace, data: bytes) -> None:
        self._messages.flush(namespace)
        self._held = namespace, data
        self._timer = asyncio.get_running_loop().call_later(PAIR_S, self._flush)

    def _checkpoint(self, namespace: _Namespace, data: Mapping[str, Any]) -> None:
        if self._held is not None and self._held[0] != namespace:
            self._flush()
        summary = _summary(data, with_step=self._tells_step)
        self._emit(event_name("checkpoints", namespace), dumps(summary))
        self._flush()

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._held is not None:
            (namespace, data), self._held = self._held, None
            self._emit("|".join(("values", *namespace)), data)


class PlainLogEvents:
    """The events of an attempt whose run was asked for by a client of a run, on a thread that has
    clients of event streaming.

    The run's stream decides how models are called and what is streamed; the log gets its states and
    interrupts. Arguments as of `LogEvents`.

    Args:
        modes: the stream modes of the run, whose events are in its log already.
    """

    def __init__(self, emit: Emit, tail: Tail | None, modes: frozenset[str]) -> None:
        self._questions = _Questions(emit, tail)
        self._emit = emit
        self._emits_values = "values" not in modes

    async def add(self, namespace: _Namespace, mode: str, payload: Any) -> None:
        """Takes a chunk of the graph's stream."""
        if mode != "values":
            return
        state, interrupts = parted(payload)
        if self._emits_values and (state or not interrupts):
            self._emit(event_name("values", namespace), encoded_values(state))
        self._questions.ask(namespace, interrupts)

    async def end(self, error: BaseException | None) -> None:
        """Takes the end of the graph's stream."""
        if error is None:
            await self._questions.tell()


class _Questions:
    """What may be told once only, also if an attempt before has told it.

    An interrupt is told at the end of the run, though LangGraph reports it when a node raises it:
    a client that answers at once must find a thread that waits for the answer.
    """

    def __init__(self, emit: Emit, tail: Tail | None) -> None:
        self._emit = emit
        self._tail = tail
        self._asked: dict[str, tuple[_Namespace, Any]] = {}

    def ask(self, namespace: _Namespace, interrupts: Any) -> None:
        """Takes interrupts; the graph around a graph reports the same ones."""
        for interrupt in interrupts:
            self._asked.setdefault(interrupt.id, (namespace, interrupt.value))

    async def tell(self) -> None:
        """Emits an event for each interrupt."""
        for interrupt_id, (namespace, value) in self._asked.items():
            # The protocol says `payload`; the Python SDK reads `value`.
            body = dumps({"interrupt_id": interrupt_id, "payload": value, "value": value})
            await self.once(event_name(INPUT_REQUESTED, namespace), body)

    async def answered(self, resume: Any) -> None:
        ids = [*cast("dict[str, Any]", resume)] if isinstance(resume, dict) else []
        if ids and all(map(_is_interrupt_id, ids)):
            await self.once(event_name(INPUT_ANSWERED), dumps({"interrupt_ids": ids}))

    async def once(self, name: str, data: bytes) -> None:
        if self._tail is None or not await self._tail.has(name, data, whole=True):
            self._emit(name, data)


def parted(payload: Any) -> tuple[Any, Any]:
    """Returns a state and its interrupts, of a chunk of the mode ``values``."""
    if not is_object(payload) or INTERRUPT not in payload:
        return payload, ()
    found = payload
    return {key: value for key, value in found.items() if key != INTERRUPT}, found[INTERRUPT]


def encoded_values(values: Any) -> bytes:
    """Encodes a state; its messages have only the fields that say something."""
    if isinstance(values, BaseModel) and not isinstance(values, BaseMessage):
        values = dict(values)
    if isinstance(values, dict):
        state = cast(dict[str, Any], values)
        return dumps({key: _compact(value) for key, value in state.items()})
    return dumps(_compact(values))


def _compact(value: Any) -> Any:
    if isinstance(value, BaseMessage):
        return _message(value)
    if not isinstance(value, list | tuple):
        return value
    items = cast("list[Any]", value)
    if any(isinstance(each, BaseMessage) for each in items):
        return [_compact(each) for each in items]
    return items


_SILENT = ("additional_kwargs", "response_metadata", "tool_calls", "invalid_tool_calls")


def _message(message: BaseMessage) -> dict[str, Any]:
    fields = dict(message)
    kept = {
        name: value
        for name, value in fields.items()
        if value is not None and not (name in _SILENT and not value)
    }
    if kept.get("example") is False:
        del kept["example"]
    return kept


def _summary(checkpoint: Mapping[str, Any], *, with_step: bool) -> dict[str, Any]:
    metadata: Mapping[str, Any] = checkpoint.get("metadata") or {}
    found = {
        "id": _checkpoint_id(checkpoint.get("config")),
        "parent_id": _checkpoint_id(checkpoint.get("parent_config")),
        "step": metadata.get("step") if with_step else None,
        "source": metadata.get("source"),
    }
    return {name: value for name, value in found.items() if value is not None}


def _checkpoint_id(config: Mapping[str, Any] | None) -> str | None:
    configurable: Mapping[str, Any] = (config or {}).get("configurable") or {}
    return configurable.get("checkpoint_id")


def _is_interrupt_id(value: object) -> bool:
    return isinstance(value, str) and len(value) == 32 and not set(value) - set("0123456789abcdef")


OF_A_LOG = Told(
    values=encoded_values, checkpoints=lambda namespace: event_name("checkpoints", namespace)
)
"""How the events of `LogEvents` are in the tail of their run."""


class _Messages:
    """The messages of models, token by token. Those of one node do not mix."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._ids: dict[str, str] = {}
        self._current: dict[str, str] = {}
        self._waiting: dict[str, dict[str, list[bytes]]] = {}

    def add(self, namespace: _Namespace, payload: Any, metadata: Mapping[str, Any]) -> None:
        if not isinstance(payload, dict) or "event" not in payload:
            return  # a message that a node returned whole is in the values
        event = cast(dict[str, Any], payload)
        kind, run = event["event"], str(metadata.get("run_id"))
        if event.get("role") == "tool":
            return  # results of tools are in the channel `tools`, and in the values
        if kind == "message-start":
            self._ids[run] = str(event.get("message_id") or event.get("id") or run)
        body = {key: value for key, value in event.items() if key != "message_id"}
        body["id"] = self._ids.get(run, run)
        node = str(metadata.get("langgraph_node") or "").replace("|", "_")
        name = event_name("messages", namespace, detail=node)
        current = self._current.setdefault(name, run)
        if current != run:
            self._waiting.setdefault(name, {}).setdefault(run, []).append(dumps(body))
            return
        self._emit(name, dumps(body))
        if kind in ("message-finish", "error"):
            self._ids.pop(run, None)
            self._next(name)

    def flush(self, namespace: _Namespace | None = None) -> None:
        """Emits what waits: at the end of a superstep a message that is not finished never is."""
        for name in [*self._current]:
            if namespace is None or name.split("|")[1:] == [*namespace]:
                while name in self._current:
                    self._ids.pop(self._current[name], None)
                    self._next(name)

    def _next(self, name: str) -> None:
        del self._current[name]
        waiting = self._waiting.get(name)
        while waiting:
            run = next(iter(waiting))
            bodies = waiting.pop(run)
            for body in bodies:
                self._emit(name, body)
            if not _is_finished(bodies[-1]):
                self._current[name] = run
                return
        self._waiting.pop(name, None)


def _is_finished(body: bytes) -> bool:
    return b'"event":"message-finish"' in body or b'"event":"error"' in body
