"""The commands of event streaming that are about a thread's states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from greenroom.core.ports import HistoryQuestion, JsonObject, StateQuestion
from greenroom.http.bodies import validated
from greenroom.http.event_streaming.asking import Asked, CommandError, assistant_of
from greenroom.http.event_streaming.run_commands import created
from greenroom.http.thread_lookups import graph_of
from greenroom.wire.encoding import is_list, is_object, loads
from greenroom.wire.models import RunCreate

_MAX_CHECKPOINTS = 1000


async def get(asked: Asked) -> JsonObject:
    """``state.get``: the state of a thread, or of a subgraph of it."""
    keys = asked.params.get("keys")
    if keys is not None and not (is_list(keys) and all(isinstance(key, str) for key in keys)):
        raise CommandError("invalid_argument", "keys must be an array of strings.")
    namespace = asked.namespace()
    state = await _state(asked, {"checkpoint_ns": "|".join(namespace)} if namespace else None)
    checkpoint: JsonObject = state.get("checkpoint") or {}
    if namespace and not checkpoint.get("checkpoint_id"):
        raise CommandError("no_such_namespace", f"Nothing has run in {list(namespace)}.")
    values: Any = state.get("values")
    if keys is not None:
        values = {key: values[key] for key in keys if is_object(values) and key in values}
    found: JsonObject = {"values": values if values is not None else {}}
    if checkpoint.get("checkpoint_id"):
        found["checkpoint"] = {
            "id": checkpoint["checkpoint_id"],
            "ns": checkpoint.get("checkpoint_ns") or "",
        }
    return found


async def list_checkpoints(asked: Asked) -> JsonObject:
    """``state.listCheckpoints``: the newest ones first."""
    limit, before = asked.params.get("limit", 10), asked.params.get("before")
    if type(limit) is not int or not 1 <= limit <= _MAX_CHECKPOINTS:
        raise CommandError("invalid_argument", f"limit must be from 1 to {_MAX_CHECKPOINTS}.")
    if before is not None and not (isinstance(before, str) and before):
        raise CommandError("invalid_argument", "before must be the id of a checkpoint.")
    namespace = asked.namespace()
    graph_id = await _graph(asked)
    states: list[JsonObject] = loads(
        await asked.edge.runtime.ask(
            HistoryQuestion(
                graph_id=graph_id,
                thread_id=asked.thread_id,
                limit=limit,
                before=None if before is None else {"checkpoint_id": before},
                checkpoint={"checkpoint_ns": "|".join(namespace)} if namespace else None,
            )
        )
    )
    return {"checkpoints": [_summary(state) for state in states]}


def _summary(state: JsonObject) -> JsonObject:
    metadata: JsonObject = state.get("metadata") or {}
    checkpoint: JsonObject = state.get("checkpoint") or {}
    return {
        "id": checkpoint.get("checkpoint_id"),
        "timestamp": state.get("created_at"),
        "step": metadata.get("step"),
        "metadata": metadata,
    }


async def fork(asked: Asked) -> JsonObject:
    """``state.fork``: a run that goes on from an earlier checkpoint of the thread."""
    checkpoint_id = asked.text("checkpoint_id")
    thread = await asked.readable()
    if thread is None:
        raise CommandError("no_such_checkpoint", "The thread has no checkpoint yet.")
    state = await _state(asked, {"checkpoint_id": checkpoint_id, "checkpoint_ns": ""})
    if state.get("created_at") is None:
        raise CommandError("no_such_checkpoint", f"The thread has no checkpoint {checkpoint_id}.")
    body = validated(
        RunCreate,
        {
            "assistant_id": assistant_of(thread),
            "checkpoint_id": checkpoint_id,
            "input": asked.params.get("input"),
            "config": asked.params.get("config"),
        },
    )
    run = await created(asked, body, None)
    return {"run_id": run.run_id, "thread_id": run.thread_id}


async def _state(asked: Asked, checkpoint: Mapping[str, Any] | None) -> JsonObject:
    graph_id = await _graph(asked)
    question = StateQuestion(
        graph_id=graph_id, thread_id=asked.thread_id, checkpoint=checkpoint, subgraphs=False
    )
    return loads(await asked.edge.runtime.ask(question))


async def _graph(asked: Asked) -> str:
    thread = await asked.readable()
    graph_id = None if thread is None else graph_of(thread)
    if graph_id is None:
        raise CommandError("no_such_run", "No run has been made on this thread yet.")
    return graph_id
