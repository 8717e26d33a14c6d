"""``/v1/responses``: a response is a run, on a thread that later responses go on with.

The run's id is in the response's, and what the response needs of its request is in the run's
metadata and config. So a response is the same to the client that waited for it, to one that asks
after a restart of the server, and on any gateway.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.access import Value
from greenroom.core.errors import BadRequest, Conflict, InvalidRequest, NotFound
from greenroom.core.ports import JsonObject
from greenroom.core.runs import CancelRequest, RunStatus
from greenroom.core.scopes import SERVER
from greenroom.http.answering import json
from greenroom.http.bodies import parse
from greenroom.http.creation import NewRun, plain
from greenroom.http.edge import Edge, dialect_of, edge_of
from greenroom.http.following import cancelling, event_stream
from greenroom.http.gates import cancels, id_value, reads_thread
from greenroom.http.openai import states
from greenroom.http.openai.errors import RunFailed, refusal
from greenroom.http.openai.inputs import response_messages
from greenroom.http.openai.late import late_answer
from greenroom.http.openai.parameters import configurable_of
from greenroom.http.openai.response_events import Events
from greenroom.http.openai.response_objects import (
    RESPONSE,
    Record,
    current,
    ended,
    found,
    reread,
    response_id,
    run_id_of,
)
from greenroom.http.openai.served import Model, model_of
from greenroom.http.openai.turns import Place, Turn, begun, place_of
from greenroom.http.parameters import flag, number, text, thread_id_of
from greenroom.wire.dialects import Dialect
from greenroom.wire.encoding import is_object, loads
from greenroom.wire.openai_models import ResponseCreate

_CONVERSATION = "conv_"
FROM_THE_START = -1


async def create(request: Request) -> Response:
    """Answers a request for a response.

    Raises:
        GreenroomError: the request is refused.
    """
    asked = await parse(request, ResponseCreate)
    edge, dialect = edge_of(request), dialect_of(request)
    messages = response_messages(asked.input, asked.instructions)
    model = await model_of(edge, dialect, asked.model)
    configurable = configurable_of(asked, model)
    place, is_ours = await _place(edge, dialect, asked, model)
    metadata = {k: v for k, v in (asked.metadata or {}).items() if k != "thread_id"}
    own: JsonObject = {
        "object": RESPONSE,
        "model": asked.model,
        "metadata": metadata,
        "background": asked.background,
        "previous_response_id": asked.previous_response_id,
        "conversation": asked.conversation is not None,
        "instructed": asked.instructions is not None and not place.waits,
        "temporary": place.temporary,
        "made_thread": is_ours,
    }
    run = await begun(
        request,
        Turn(
            model=model,
            place=place,
            messages=messages,
            configurable=configurable,
            metadata=metadata,
            own={key: value for key, value in own.items() if value},
            lasts=bool(asked.background),
            resumable=bool(asked.background and asked.stream),
        ),
    )
    record = _record(run)
    leave = None if asked.background else cancelling(edge, run.thread_id, run.run_id, SERVER)
    if asked.stream:
        events = Events(edge=edge, record=record, placement=run.created.placement)
        return event_stream(edge, events.frames(FROM_THE_START), leave=leave)
    if asked.background:
        return json(record.shown(status=record.status))

    async def whole() -> Response:
        try:
            end = await edge.runtime.outcome(run.run_id, run.created.placement)
        except NotFound:
            return refusal(RunFailed("The run was deleted before it ended."))
        return json(ended(await reread(edge, record), end))

    return late_answer(edge, whole, leave)


def _record(run: NewRun) -> Record:
    """Returns the record of a run that was just created."""
    if run.stored is not None:
        return Record.of(run.stored)
    created = run.created
    record = Record.of(
        {
            "run_id": run.run_id,
            "thread_id": run.thread_id,
            "status": RunStatus.PENDING,
            "metadata": loads(created.metadata),
            "kwargs": loads(run.request.kwargs_with(created.metadata)),
            "created_at": created.created_at,
            "updated_at": created.created_at,
        }
    )
    return record


async def _place(
    edge: Edge, dialect: Dialect, asked: ResponseCreate, model: Model
) -> tuple[Place, bool]:
    """Returns the place of a response, and whether responses have made its thread."""
    if asked.previous_response_id is not None:
        return await _after(edge, asked.previous_response_id, model)
    named = _conversation_id(asked.conversation)
    if named is None:
        named = (asked.metadata or {}).get("thread_id")
    if named is not None:
        return await place_of(edge, thread_id_of(dialect, named)), False
    return Place(temporary=asked.store is False), True


def _conversation_id(given: str | JsonObject | None) -> str | None:
    if given is None:
        return None
    found_id: Any = given.get("id") if is_object(given) else given
    if not isinstance(found_id, str):
        raise InvalidRequest("conversation must be an id, or an object with one.")
    return found_id.removeprefix(_CONVERSATION)


async def _after(edge: Edge, previous: str, model: Model) -> tuple[Place, bool]:
    """Returns the place behind a response, also if it is not the last one of its thread."""
    try:
        record = await found(edge, previous)
    except NotFound:
        raise BadRequest(
            f"previous_response_id: there is no response '{previous[:255]}', or it was not stored."
        ) from None
    is_ours = bool(record.own.get("made_thread"))
    place = await place_of(edge, record.thread_id)
    scope = await reads_thread(edge, record.thread_id)
    runs = await edge.records.list_runs(
        record.thread_id, limit=1, offset=0, status=None, scope=scope
    )
    if not runs or str(runs[0]["run_id"]) == record.run_id or not record.status.is_terminal:
        return place, is_ours
    # As with OpenAI, two responses may go on from one: each is a branch of the thread's states.
    graph_id = str(model.assistant["graph_id"])
    state = await states.left_by(edge, graph_id, record.thread_id, record.run_id)
    if state is None:
        raise BadRequest(
            f"previous_response_id: the state after '{previous[:255]}' is not kept any more; go on"
            f" from '{response_id(str(runs[0]['run_id']))}'."
        )
    return replace(place, state=state, waits=bool(state.interrupts)), is_ours


async def get(request: Request, value: str) -> Response:
    """Answers with a response, or with its stream.

    Raises:
        NotFound: it does not exist.
    """
    edge = edge_of(request)
    record = await found(edge, value)
    if not flag(request, "stream"):
        if text(request, "starting_after") is not None:
            raise InvalidRequest("starting_after is for streams: set 'stream' to true.")
        return json(await current(edge, record))
    after = number(request, "starting_after", None)
    if not plain(record.run.get("kwargs")).get("resumable"):
        raise BadRequest(
            "The events of this response are not kept: a response has them if it was created with"
            " 'background' and 'stream'."
        )
    events = Events(edge=edge, record=record, placement=None, resumable=True)
    return event_stream(edge, events.frames(FROM_THE_START if after is None else after))


async def cancel(request: Request, value: str) -> Response:
    """Cancels the run of a response; answers with the response once it has ended.

    Raises:
        NotFound: it does not exist.
    """
    edge = edge_of(request)
    record = await found(edge, value)
    if not record.status.is_terminal:
        wanted = CancelRequest(thread_id=record.thread_id, run_id=record.run_id)
        scope = await cancels(edge, record.thread_id, action="interrupt", run_ids=[record.run_id])
        with suppress(Conflict):  # it ended meanwhile
            await edge.runtime.cancel(wanted, wait=True, scope=scope)
        record = await found(edge, value)
    return json(await current(edge, record))


async def delete(request: Request, value: str) -> Response:
    """Deletes a response with its run; its thread goes with the last one of those that made it.

    Raises:
        NotFound: it does not exist.
    """
    edge = edge_of(request)
    record = await found(edge, value)
    value_of_check: Value = {
        "thread_id": id_value(record.thread_id),
        "run_id": id_value(record.run_id),
    }
    scope = await edge.gate.allow("threads", "delete", value_of_check)
    await edge.runtime.delete_run(record.thread_id, record.run_id, scope=scope)
    if record.own.get("made_thread"):
        runs = await edge.records.list_runs(
            record.thread_id, limit=1, offset=0, status=None, scope=scope
        )
        if runs == []:
            await edge.runtime.delete_thread(record.thread_id, scope=scope)
    deleted = {"id": response_id(run_id_of(value)), "object": RESPONSE, "deleted": True}
    return json(deleted)
