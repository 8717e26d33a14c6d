"""Routes for people who watch a server and its runs. The Platform has none of them."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.access import Value
from greenroom.core.scopes import Scope
from greenroom.core.searches import ThreadFilter
from greenroom.http.answering import json
from greenroom.http.documents import doc
from greenroom.http.edge import edge_of
from greenroom.http.gates import metadata_of
from greenroom.wire import answers

router = APIRouter(tags=["System"])


@router.get(
    "/runtime",
    summary="What the server does now: pools, actors, queue, rates, deaths",
    **doc({200: answers.Runtime}),
)
async def runtime(request: Request) -> Response:
    """With ``auth`` the numbers are of all runs, and the rows of runs those that the caller may
    read."""
    edge = edge_of(request)
    value: Value = {"metadata": {}, "values": {}, "status": None, "limit": 0, "offset": 0}
    scope = await edge.gate.allow("threads", "search", value)
    if wanted := metadata_of(value):
        is_plain = not any(isinstance(each, dict | list) for each in wanted.values())
        scope &= Scope.of_filter(wanted) if is_plain else Scope.nothing()
    found = await edge.runtime.overview(scope=scope)
    waiting = ThreadFilter(status="interrupted")
    interrupted = await edge.records.count_threads(waiting, scope=scope)
    return json({**found, "totals": {**found["totals"], "interrupted": interrupted}})
