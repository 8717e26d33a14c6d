"""Answers questions about threads' states and graphs' structures, which need the graph but no run.

Every answer is the API's JSON. LangGraph's `StateSnapshot` becomes the API's thread state, which
names its checkpoint twice: as an object, and by id alone for older clients.
"""
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.errors import EmptyChannelError, InvalidUpdateError
from langgraph.store.base import BaseStore
from langgraph.types import Interrupt, PregelTask, StateSnapshot
from langgraph.types import StateUpdate as NodeUpdate

from greenroom.core import identity
from greenroom.core.errors import BadRequest, GreenroomError, InvalidRequest
from greenroom.core.outputs import output_of
from greenroom.core.ports import (
    DrawQuestion,
    HistoryQuestion,
    InputQuestion,
    Question,
    SchemasQuestion,
    StateQuestion,
    StateUpdate,
    SubgraphsQuestion,
    SuperstepsUpdate,
    Update,
    Updated,
)
from greenroom.core.raised import message_of, representation
from greenroom.core.units import MIB
from greenroom.graphs.containment import has_escaped
from greenroom.graphs.input_check import check_input
from greenroom.graphs.instructions import parse_command
from greenroom.graphs.loading import Graph, LoadedGraph, Saver
from greenroom.graphs.outputs import output_keys
from greenroom.graphs.schemas import schemas
from greenroom.graphs.updates import apply_once, one_at_a_time, shown, stamping
from greenroom.wire.encoding import dumps, loads

HISTORY_MAX_BYTES = 64 * MIB
"""The most bytes of one answer with a thread's history; at least one state is returned."""
HISTORY_PAGE_BYTES = 16 * MIB
"""About how much of a history is read at once."""

_REFUSALS = (
    InvalidUpdateError,
    EmptyChannelError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
)
"""The errors that a graph, including its reducers, raises for values that do not fit it."""


async def answer(
    loaded: LoadedGraph, question: Question, *, checkpointer: Saver, store: BaseStore | None
) -> bytes:
    """Answers a question; returns JSON.

    Raises:
        BadRequest: the graph cannot answer it, e.g. the subgraph does not exist.
        InvalidRequest: the state cannot take an input (`InputQuestion`).
    """
    match question:
        case StateQuestion():
            config = _config(question.graph_id, question.thread_id, question.checkpoint)
            async with loaded.open(config, checkpointer=checkpointer, store=store) as graph:
                snapshot = await _snapshot(graph, config, subgraphs=question.subgraphs)
                return dumps(thread_state(snapshot))
        case HistoryQuestion():
            return await _history(loaded, question, checkpointer, store)
        case InputQuestion():
            config = cast(RunnableConfig, identity.fields_of(question.config or {}))
            async with loaded.open(
                config, checkpointer=checkpointer, store=store, access="threads.create_run"
            ) as graph:
                said = loads(question.said)
                check_input(
                    graph, question.graph_id, said["input"], said["command"], question.as_node
                )
            return b"{}"
        case SchemasQuestion() | DrawQuestion() | SubgraphsQuestion():
            config = cast(RunnableConfig, identity.fields_of(question.config or {}))
            async with loaded.open(
                config, checkpointer=checkpointer, store=store, access="assistants.read"
            ) as graph:
                return dumps(await _shape(graph, question, config))


async def update(
    loaded: LoadedGraph, update: Update, *, checkpointer: Saver, store: BaseStore | None
) -> Updated:
    """Writes to a thread's state as if a node had written, and returns the thread's new state.

    A repeated update with the same id writes only the missing part (`graphs.updates`).

    Raises:
        BadRequest: the graph rejects the values or the node; the message is LangGraph's.
        InvalidRequest: the update is malformed.
    """
    match update:
        case StateUpdate():
            config = _config(update.graph_id, update.thread_id, update.checkpoint)
            supersteps = [[NodeUpdate(loads(update.values), update.as_node, None)]]
        case SuperstepsUpdate():
            config = _config(update.graph_id, update.thread_id, None)
            supersteps = _supersteps(loads(update.supersteps))
    saver = stamping(checkpointer, update.update_id)
    opened = loaded.open(config, checkpointer=saver, store=store, access="threads.update")
    async with one_at_a_time(update.thread_id), opened as graph:
        try:
            updated = await apply_once(graph, saver, config, supersteps, update.update_id)
        except _REFUSALS as error:
            raise BadRequest(message_of(error)) from error
        head = await head_state(graph, config)
    where = updated.get("configurable", {})
    return Updated(
        answer=dumps(
            {
                "checkpoint": where,
                "configurable": where,
                "checkpoint_id": where.get("checkpoint_id"),
            }
        ),
        values=head.values,
        interrupts=head.interrupts,
        has_next=head.has_next,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """The facts of a thread's newest checkpoint.

    Attributes:
        values: the state as JSON; None without a checkpoint.
        output: the part of ``values`` that the graph's output schema shows.
        output_keys, interrupts, has_next: as in `Outcome`.
    """

    values: bytes | None = None
    output: bytes | None = None
    output_keys: bytes | None = None
    interrupts: bytes = b"{}"
    has_next: bool = False


async def head_state(graph: Graph, config: RunnableConfig) -> Head:
    """Reads the facts of a thread's newest checkpoint."""
    keys = output_keys(graph)
    encoded_keys = None if keys is None else dumps(keys)
    thread_id = config.get("configurable", {})["thread_id"]
    newest: RunnableConfig = {"configurable": {"thread_id": thread_id}}
    snapshot = await _snapshot(graph, newest, subgraphs=True)
    if snapshot.created_at is None:
        return Head(output_keys=encoded_keys)
    values = dumps(snapshot.values)
    return Head(
        values=values,
        output=values if keys is None else dumps(output_of(snapshot.values, keys)),
        output_keys=encoded_keys,
        interrupts=dumps(pending_interrupts(snapshot)),
        has_next=bool(snapshot.next),
    )


async def _snapshot(graph: Graph, config: RunnableConfig, *, subgraphs: bool) -> StateSnapshot:
    """Reads the state that a config points to.

    LangGraph shows the newest checkpoint together with the later writes of finished tasks. If a
    reducer raises on those writes (the reason why the superstep failed), the state shows only the
    finished supersteps, as LangGraph does for a named checkpoint.
    """
    try:
        return await graph.aget_state(config, subgraphs=subgraphs)
    except (GreenroomError, asyncio.CancelledError):
        raise
    except BaseException as error:
        saver: Any = cast(Any, graph).checkpointer
        configurable = config.get("configurable", {})
        if not isinstance(saver, BaseCheckpointSaver) or configurable.get("checkpoint_id"):
            raise
        if isinstance(error, GeneratorExit) and not has_escaped(error):
            raise
        saved = await saver.aget_tuple(config)
        if saved is None:
            raise
        at = {**configurable, "checkpoint_id": saved.checkpoint["id"]}
        return await graph.aget_state({"configurable": at}, subgraphs=subgraphs)


def pending_interrupts(snapshot: StateSnapshot) -> dict[str, list[dict[str, Any]]]:
    """Returns a thread's ``interrupts`` by the task that raised them, possibly a subgraph's."""
    found: dict[str, list[dict[str, Any]]] = {}
    for task in snapshot.tasks:
        if isinstance(task.state, StateSnapshot) and task.state.interrupts:
            found |= pending_interrupts(task.state)
        elif task.interrupts:
            found[task.id] = _interrupts(task.interrupts)
    return found


def thread_state(snapshot: StateSnapshot) -> dict[str, Any]:
    """Returns a snapshot as the API's thread state."""
    checkpoint = checkpoint_of(snapshot.config)
    parent = checkpoint_of(snapshot.parent_config)
    has_checkpoint = checkpoint is not None and bool(checkpoint.get("checkpoint_id"))
    return {
        "values": snapshot.values,
        "next": snapshot.next,
        "tasks": [_task(task) for task in snapshot.tasks],
        "metadata": _metadata(snapshot),
        "created_at": snapshot.created_at,
        "checkpoint": checkpoint if has_checkpoint else None,
        "parent_checkpoint": parent,
        "interrupts": _interrupts(snapshot.interrupts),
        "checkpoint_id": checkpoint["checkpoint_id"] if checkpoint and has_checkpoint else None,
        "parent_checkpoint_id": parent.get("checkpoint_id") if parent else None,
    }


def _metadata(snapshot: StateSnapshot) -> dict[str, Any] | None:
    """Returns a checkpoint's metadata with its place, which is not stored: a copy has another."""
    metadata = shown(snapshot.metadata)
    if metadata is None:
        return None
    place = checkpoint_of(snapshot.config) or {}
    names = ("thread_id", "checkpoint_ns") if place.get("checkpoint_ns") else ("thread_id",)
    return {**metadata, **{name: place[name] for name in names if name in place}}


def _task(task: PregelTask) -> dict[str, Any]:
    state = task.state
    error: Any = task.error
    return {
        "id": task.id,
        "name": task.name,
        "path": cast(Any, task).path,
        "error": representation(error) if isinstance(error, BaseException) else error,
        "interrupts": _interrupts(task.interrupts),
        "checkpoint": None if isinstance(state, StateSnapshot) else checkpoint_of(state),
        "state": thread_state(state) if isinstance(state, StateSnapshot) else None,
        "result": task.result,
    }


def _interrupts(interrupts: Sequence[Interrupt[Any]]) -> list[dict[str, Any]]:
    """Returns interrupts as the API has them, with the schema of the answer where there is one."""
    shown: list[dict[str, Any]] = []
    for item in interrupts:
        schema = item.response_schema
        also = {} if schema is None else {"response_schema": schema}
        shown.append({"id": item.id, "value": item.value, **also})
    return shown


_CHECKPOINT_KEYS = ("checkpoint_id", "thread_id", "checkpoint_ns", "checkpoint_map")


def checkpoint_of(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Returns the API's ``checkpoint`` object for a config."""
    if not config:
        return None
    configurable = config.get("configurable", {})
    return {key: configurable[key] for key in _CHECKPOINT_KEYS if key in configurable}


def _config(graph_id: str, thread_id: str, checkpoint: Mapping[str, Any] | None) -> RunnableConfig:
    given = {key: value for key, value in (checkpoint or {}).items() if key in _CHECKPOINT_KEYS}
    return {
        "configurable": {
            **{key: value for key, value in given.items() if value is not None},
            "graph_id": graph_id,
            "thread_id": thread_id,
        }
    }


async def _history(
    loaded: LoadedGraph, question: HistoryQuestion, checkpointer: Saver, store: BaseStore | None
) -> bytes:
    config = _config(question.graph_id, question.thread_id, question.checkpoint)
    before = None
    if question.before:
        before = _config(question.graph_id, question.thread_id, question.before)
    wanted = dict(question.metadata or {})
    if wanted.pop("thread_id", question.thread_id) != question.thread_id:
        return b"[]"
    states: list[bytes] = []
    size = 0
    async with loaded.open(config, checkpointer=checkpointer, store=store) as graph:
        while len(states) < question.limit:
            # LangGraph reads all of a page before it yields any of it.
            count = question.limit - len(states)
            count = min(count, max(1, HISTORY_PAGE_BYTES * len(states) // size)) if size else 1
            page = graph.aget_state_history(
                config, limit=count, before=before, filter=wanted or None
            )
            seen = 0
            async for snapshot in page:
                states.append(dumps(thread_state(snapshot)))
                size += len(states[-1])
                seen += 1
                if size > HISTORY_MAX_BYTES and len(states) > 1:
                    raise BadRequest(
                        f"{len(states)} states of this thread are more than"
                        f" {HISTORY_MAX_BYTES // MIB} MiB, the most that one answer has. Ask for"
                        f" limit={len(states) - 1} at once, and for those before them with"
                        " 'before'."
                    )
                before = snapshot.config
            if seen < count:
                break
    return b"[%b]" % b",".join(states)


def _supersteps(given: Any) -> list[list[NodeUpdate]]:
    try:
        return [[_node_update(item) for item in step["updates"]] for step in given]
    except (TypeError, KeyError, AttributeError):
        raise InvalidRequest(
            "'supersteps' must be a list of {\"updates\": [{values, command, as_node}]}."
        ) from None


def _node_update(item: Mapping[str, Any]) -> NodeUpdate:
    command = item.get("command")
    # The values may be a command, as a node may return one; `NodeUpdate` does not declare it.
    values: Any = parse_command(command) if command else item.get("values")
    return NodeUpdate(values, item.get("as_node"), None)


# --- shapes ---------------------------------------------------------------------------------------


async def _shape(
    graph: Graph,
    question: SchemasQuestion | DrawQuestion | SubgraphsQuestion,
    config: RunnableConfig,
) -> Any:
    match question:
        case SchemasQuestion():
            return {"graph_id": question.graph_id, **schemas(graph)}
        case DrawQuestion():
            return _drawing((await graph.aget_graph(config, xray=question.xray)).to_json())
        case SubgraphsQuestion():
            found = cast(Any, graph).aget_subgraphs(
                namespace=question.namespace, recurse=question.recurse
            )
            return {name: schemas(subgraph) async for name, subgraph in found}


def _drawing(drawing: dict[str, Any]) -> dict[str, Any]:
    """Returns LangChain's drawing without the Python paths of the nodes' classes."""
    for node in drawing["nodes"]:
        if isinstance(data := node.get("data"), dict):
            node["data"] = {"name": data["name"]} if "name" in data else data
    return drawing
