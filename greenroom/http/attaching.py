"""Routes for people who look into one run. The Platform has none of them."""

from __future__ import annotations

import uuid
from dataclasses import replace

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.access import Value
from greenroom.core.errors import RUN_NOT_FOUND, NotFound
from greenroom.core.pausing import PauseAction, PauseRequest
from greenroom.core.timeline import timeline
from greenroom.http.answering import json
from greenroom.http.documents import doc
from greenroom.http.edge import Edge, dialect_of, edge_of
from greenroom.http.gates import id_value, reads_thread
from greenroom.http.parameters import thread_id_of, uuid_of
from greenroom.wire import answers

router = APIRouter(tags=["Thread runs"])


@router.get(
    "/threads/{thread_id}/runs/{run_id}/timeline",
    summary="The life of a run in time: queue, attempts, nodes, pauses",
    **doc({200: answers.Timeline}, errors=(404,)),
)
async def of_run(request: Request, thread_id: str, run_id: str) -> Response:
    """Also of a run that nobody has watched, for as long as its record is there."""
    edge, thread_id, run_id = _addressed(request, thread_id, run_id)
    scope = await reads_thread(edge, thread_id)
    life = await edge.records.stored_life(thread_id, run_id, scope=scope)
    if life is None:
        raise NotFound(RUN_NOT_FOUND)
    begun = [entry for entry in life.history if entry[0] == "start"]
    if begun and life.ended_ms is None and life.history[-1][0] != "lost":
        _, _, attempt, actor, *_ = begun[-1]
        notes = await edge.runtime.notes(run_id, attempt, actor)
        if notes is not None:
            life = replace(life, notes={**life.notes, attempt: notes})
    return json(timeline(life))


@router.get(
    "/threads/{thread_id}/runs/{run_id}/stack",
    summary="What the process of a run does at this moment",
    **doc({200: answers.Stack}, errors=(404, 409)),
)
async def stack(request: Request, thread_id: str, run_id: str) -> Response:
    """All threads and asyncio tasks, also of a node that blocks: ``by`` says whether the actor has
    told them, or a signal, since code held its interpreter."""
    edge, thread_id, run_id = _addressed(request, thread_id, run_id)
    scope = await reads_thread(edge, thread_id)
    found = await edge.runtime.stack(thread_id, run_id, scope=scope)
    return json({"run_id": run_id, "thread_id": thread_id, **found})


@router.post(
    "/threads/{thread_id}/runs/{run_id}/pause",
    summary="Pause a run at the end of its superstep",
    **doc({202: answers.Paused}, errors=(404, 409)),
)
async def pause(request: Request, thread_id: str, run_id: str) -> Response:
    """A run that is paused stays ``running``, on its thread and on its actor, also across a death
    of its process and a restart of the server. It can be cancelled, and spoken to."""
    return await _want(request, thread_id, run_id, "pause")


@router.post(
    "/threads/{thread_id}/runs/{run_id}/step",
    summary="Let a paused run execute one superstep",
    **doc({202: answers.Paused}, errors=(404, 409)),
)
async def step(request: Request, thread_id: str, run_id: str) -> Response:
    return await _want(request, thread_id, run_id, "step")


@router.post(
    "/threads/{thread_id}/runs/{run_id}/resume",
    summary="Let a paused run go on",
    **doc({202: answers.Paused}, errors=(404, 409)),
)
async def resume(request: Request, thread_id: str, run_id: str) -> Response:
    return await _want(request, thread_id, run_id, "resume")


async def _want(request: Request, thread_id: str, run_id: str, action: PauseAction) -> Response:
    edge, thread_id, run_id = _addressed(request, thread_id, run_id)
    value: Value = {
        "thread_id": id_value(thread_id),
        "action": action,
        "metadata": {"run_ids": [id_value(run_id)], "status": None},
    }
    scope = await edge.gate.allow("threads", "update", value)
    wanted = PauseRequest(thread_id=thread_id, run_id=run_id, action=action, name=uuid.uuid4().hex)
    pause = await edge.runtime.pause(wanted, scope=scope)
    paused = None if pause is None else pause.shown()
    return json({"run_id": run_id, "thread_id": thread_id, "paused": paused}, status=202)


def _addressed(request: Request, thread_id: str, run_id: str) -> tuple[Edge, str, str]:
    thread_id = thread_id_of(dialect_of(request), thread_id)
    return edge_of(request), thread_id, uuid_of(run_id, "run")
