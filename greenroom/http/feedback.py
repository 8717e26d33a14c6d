"""Feedback: what people say about a run, and the event that asks for it.

A run with ``feedback_keys`` ends its stream with an event ``feedback``: an address for each key. An
address needs nothing else, so that a page may post to it, or be a link.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.errors import RUN_NOT_FOUND, InvalidRequest, NotFound
from greenroom.core.ports import JsonObject
from greenroom.core.scopes import SERVER
from greenroom.http.answering import json
from greenroom.http.bodies import parse, parse_optional, validated
from greenroom.http.documents import doc
from greenroom.http.edge import base_url, edge_of
from greenroom.http.gates import found_run
from greenroom.http.idempotency import once
from greenroom.http.parameters import number, text, uuid_of
from greenroom.http.streaming import close
from greenroom.wire import answers
from greenroom.wire.encoding import dumps
from greenroom.wire.models import MAX_KEY_CHARACTERS, Feedback, FeedbackCreate
from greenroom.wire.sse import event_frame

router = APIRouter(tags=["Runs"])

_ERRORS = (404, 409)
_LISTED = 100
_STRING = {"type": "string"}
_QUERY = {"score": {"type": "number"}, "value": _STRING, "comment": _STRING}
_PAGE = {
    "limit": {"type": "integer", "minimum": 0},
    "offset": {"type": "integer", "minimum": 0},
}


@router.post(
    "/runs/{run_id}/feedback",
    summary="Say something about a run",
    **doc({200: answers.Feedback}, body=FeedbackCreate, once=True, errors=_ERRORS),
)
async def create(request: Request, run_id: str) -> Response:
    body = await parse(request, FeedbackCreate)
    return json(await _added(request, run_id, body.key, body))


@router.get(
    "/runs/{run_id}/feedback",
    summary="List what was said about a run, the oldest first",
    **doc({200: list[answers.Feedback]}, query=_PAGE, errors=(400, 404)),
)
async def list_feedback(request: Request, run_id: str) -> Response:
    records, run_id = edge_of(request).records, uuid_of(run_id, "run")
    await found_run(edge_of(request), run_id)
    limit = number(request, "limit", _LISTED) or 0
    offset = number(request, "offset", 0) or 0
    return json(await records.list_feedback(run_id, limit=limit, offset=offset))


@router.post(
    "/runs/{run_id}/feedback/{key}",
    summary="Say something about a run under a key, in the body or the query",
    **doc(
        {200: answers.Feedback},
        body=Feedback,
        body_required=False,
        query=_QUERY,
        once=True,
        errors=_ERRORS,
    ),
)
async def create_for_key(request: Request, run_id: str, key: str) -> Response:
    body = await parse_optional(request, Feedback)
    said = {**_of_query(request), **body.model_dump(exclude_none=True)}
    return json(await _added(request, run_id, key, validated(Feedback, said)))


@router.get(
    "/runs/{run_id}/feedback/{key}",
    summary="Say something about a run by a link",
    **doc({200: answers.Feedback}, query=_QUERY, errors=_ERRORS),
)
async def create_by_link(request: Request, run_id: str, key: str) -> Response:
    said = validated(Feedback, _of_query(request))
    return json(await _added(request, run_id, key, said))


def _of_query(request: Request) -> JsonObject:
    found: JsonObject = {name: text(request, name) for name in ("value", "comment")}
    if (score := text(request, "score")) is not None:
        try:
            found["score"] = float(score)
        except ValueError:
            raise InvalidRequest(f"score must be a number, not {score[:80]!r}.") from None
    return {name: value for name, value in found.items() if value is not None}


async def _added(request: Request, run_id: str, key: str, said: Feedback) -> JsonObject:
    records, run_id = edge_of(request).records, uuid_of(run_id, "run")
    if len(key) > MAX_KEY_CHARACTERS:
        raise InvalidRequest(f"key must have at most {MAX_KEY_CHARACTERS} characters.")
    content = said.model_dump(exclude_none=True, exclude={"key"})
    if not content:
        raise InvalidRequest("Feedback needs a score, a value, a comment or a correction.")
    if not edge_of(request).gate.is_open:
        await found_run(edge_of(request), run_id)
    found = await once(
        request, lambda ids: records.add_feedback(run_id, ids.new_id(), key, content)
    )
    if found is None:
        raise NotFound(RUN_NOT_FOUND)
    return found


# --- the event ------------------------------------------------------------------------------------


async def asking(
    request: Request, source: AsyncIterator[bytes], run_id: str, keys: Sequence[Any]
) -> AsyncIterator[bytes]:
    """Yields a run's frames, and then the event ``feedback``, unless the run was deleted."""
    try:
        async for frames in source:
            yield frames
        # Of the stream that the reader has: it was asked for before.
        if await edge_of(request).records.get_run(None, run_id, scope=SERVER) is not None:
            yield event_frame("feedback", dumps(_addresses(request, run_id, keys)))
    finally:
        await close(source)


def _addresses(request: Request, run_id: str, keys: Sequence[Any]) -> dict[str, str]:
    of_run = f"{base_url(request)}/runs/{run_id}/feedback"
    return {str(key): f"{of_run}/{quote(str(key), safe='')}" for key in keys}
