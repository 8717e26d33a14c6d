"""A call of a tool: a stateless run, its progress, its result, and its cancellation.

The answer of a call is JSON, or an event stream if the client accepts one and wants progress. A
client that closes the connection cancels its run: nobody else could ask for the result.

``notifications/cancelled`` comes on another connection, maybe at another gateway. The run is found
without any memory here: its thread's id is made of the session's id, which the client got from
``initialize`` and sends along, and the id of the request. A client without a session cancels by
closing the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import orjson
from starlette.responses import Response

from greenroom.core.errors import Conflict, GreenroomError, NotFound
from greenroom.core.ports import JsonObject
from greenroom.core.runs import CancelRequest, Outcome, RunStatus
from greenroom.core.scopes import SERVER
from greenroom.http import following
from greenroom.http.bodies import validated
from greenroom.http.creation import NewRun, create_run
from greenroom.http.edge import Edge
from greenroom.http.following import cancelling, created
from greenroom.http.gates import cancels
from greenroom.http.idempotency import NEW
from greenroom.http.mcp.messages import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    Id,
    RpcError,
    error_body,
    message_frame,
    notification_frame,
    result_body,
)
from greenroom.http.streaming import close
from greenroom.wire.dialects import Dialect
from greenroom.wire.encoding import dumps, is_object, loads
from greenroom.wire.models import RunCreate

_MODES = ["updates", "custom"]
_MESSAGE_CHARACTERS = 500
_FRAME_END = b"\r\n\r\n"


async def admitted(
    edge: Edge,
    dialect: Dialect,
    assistant: JsonObject,
    graph_input: Any,
    *,
    session_id: str | None,
    request_id: Id,
) -> NewRun:
    """Creates the run of a call; it is cancelled if the client disconnects meanwhile.

    Raises:
        RpcError: the session has a call in flight with the same id.
    """
    body = validated(
        RunCreate,
        {
            "assistant_id": str(assistant["assistant_id"]),
            "input": graph_input,
            "stream_mode": _MODES,
            "stream_resumable": False,
            "on_disconnect": "cancel",
            "on_completion": "delete",
            "multitask_strategy": "reject",
        },
    )
    thread_id = None if session_id is None else _thread_id(edge, session_id, request_id)
    try:
        ids = NEW.stateless_run(thread_id=thread_id)
        return await created(edge, create_run(edge, dialect, body, ids))
    except Conflict:
        raise RpcError(
            INVALID_REQUEST,
            f"A call with the id {dumps(request_id).decode()[:80]} is in flight in this session."
            " Use another id.",
        ) from None


def _thread_id(edge: Edge, session_id: str, request_id: Id) -> str:
    # As JSON, since the ids 1 and "1" are two. A user who knows another one's session reaches
    # nothing with it.
    of_user = f"{edge.gate.identity}:" if edge.gate.identity else ""
    return str(uuid5(NAMESPACE_URL, f"mcp:{of_user}{session_id}:{dumps(request_id).decode()}"))


async def cancel(edge: Edge, session_id: str, request_id: Id) -> None:
    """Cancels the run of a call; does nothing if there is none, or it is over."""
    thread_id = _thread_id(edge, session_id, request_id)
    scope = await cancels(edge, thread_id, action="interrupt", run_ids=None)
    runs = await edge.records.list_runs(thread_id, limit=None, offset=0, status=None, scope=scope)
    for run in runs or ():
        if RunStatus(run["status"]).is_terminal:
            continue
        wanted = CancelRequest(thread_id=thread_id, run_id=str(run["run_id"]))
        try:
            await edge.runtime.cancel(wanted, wait=False, scope=scope)
        except (NotFound, Conflict):
            continue  # it ended meanwhile


def late_json(edge: Edge, run: NewRun, request_id: Id) -> Response:
    """Answers with the result of a call as JSON."""

    async def produce() -> bytes:
        return await _answer(edge, run, request_id)

    leave = cancelling(edge, run.thread_id, run.run_id, SERVER)
    return following.late_json(edge, produce, leave=leave)


def event_stream(edge: Edge, run: NewRun, request_id: Id, token: str | int | None) -> Response:
    """Answers with the result of a call as event stream.

    Args:
        token: the client's ``progressToken``; None for no progress.
    """
    leave = cancelling(edge, run.thread_id, run.run_id, SERVER)
    return following.event_stream(edge, _frames(edge, run, request_id, token), leave=leave)


async def _frames(
    edge: Edge, run: NewRun, request_id: Id, token: str | int | None
) -> AsyncIterator[bytes]:
    # Asked from the beginning: a temporary run may be gone when its events are over.
    answer = asyncio.ensure_future(_answer(edge, run, request_id))
    try:
        if token is not None:
            progress = _progress(edge, run)
            try:
                number = 0
                async for message in progress:
                    number += 1
                    params = {"progressToken": token, "progress": number, "message": message}
                    yield notification_frame("notifications/progress", params)
            except GreenroomError:
                pass  # what is wrong with the run is said by the answer
            finally:
                await close(progress)
        yield message_frame(await answer)
    finally:
        answer.cancel()
        await asyncio.gather(answer, return_exceptions=True)


async def _progress(edge: Edge, run: NewRun) -> AsyncIterator[str]:
    """Yields a message for each node that is done and each event that the graph writes itself."""
    batches = edge.runtime.events(
        run.run_id,
        placement=run.created.placement,
        after=0,
        modes=frozenset(_MODES),
        with_ids=False,
        resumable=False,
    )
    rest = b""
    try:
        async for batch in batches:
            *frames, rest = (rest + batch.body).split(_FRAME_END)
            for frame in frames:
                if (message := _message(frame)) is not None:
                    yield message
    finally:
        await close(batches)


def _message(frame: bytes) -> str | None:
    name, _, data = frame.partition(b"\r\ndata: ")
    value: Any = loads(data) if data else None
    match name:
        case b"event: updates" if is_object(value):
            nodes = [node for node in value if not node.startswith("__")]
            return f"{', '.join(nodes)} is done" if nodes else None
        case b"event: custom":
            text = value if isinstance(value, str) else dumps(value).decode()
            return text[:_MESSAGE_CHARACTERS]
        case _:
            return None


async def _answer(edge: Edge, run: NewRun, request_id: Id) -> bytes:
    try:
        end = await edge.runtime.outcome(run.run_id, run.created.placement)
    except NotFound:
        return result_body(request_id, _failure("The run was deleted before it ended."))
    except GreenroomError as error:
        # The client gets no other answer, so the run must not go on without it.
        edge.connections.spawn(cancelling(edge, run.thread_id, run.run_id, SERVER)())
        return error_body(request_id, RpcError(INTERNAL_ERROR, error.message))
    return result_body(request_id, result_of(end))


def result_of(end: Outcome) -> JsonObject:
    """Returns the result of a call, a ``CallToolResult``."""
    if end.error is not None:
        error: Any = loads(end.error)
        parts = (error.get("error"), error.get("message"))
        return _failure(": ".join(str(part) for part in parts if part) or "The run failed.")
    questions = _questions(end.interrupts)
    if questions:
        return _failure(
            "The run stopped to ask, which MCP cannot answer; use a thread of the runs API: "
            + dumps(questions).decode()
        )
    if end.status != RunStatus.SUCCESS:
        return _failure("The run was cancelled.")
    result: JsonObject = {"content": [{"type": "text", "text": end.output.decode()}]}
    if end.output.startswith(b"{"):
        result["structuredContent"] = orjson.Fragment(end.output)
    return result


def _questions(interrupts: bytes) -> list[Any]:
    by_task: Any = loads(interrupts)
    tasks: list[Any] = list(by_task.values()) if is_object(by_task) else []
    return [one.get("value") for asked in tasks for one in asked]


def _failure(text: str) -> JsonObject:
    return {"content": [{"type": "text", "text": text}], "isError": True}
