"""The route of health checks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.errors import GreenroomError, Unavailable
from greenroom.http.answering import encoded, json
from greenroom.http.documents import doc
from greenroom.http.edge import edge_of
from greenroom.http.parameters import flag
from greenroom.wire import answers

router = APIRouter(tags=["System"])

T = TypeVar("T")

SERVICE_S = 3.0
"""How long a service may take to say that it is there."""
CHECK = {"check_db": {"type": "boolean"}}
_OK = b'{"ok":true,"services":{}}'


@router.get(
    "/ok",
    summary="Whether the server is alive",
    **doc({200: answers.Ok, 503: answers.Ok}, query=CHECK),
)
async def ok(request: Request) -> Response:
    """Stays fast whatever the graphs do; ``check_db`` asks the services as well: the database, the
    registries, and whether there are actors. 503 if one of the first two does not answer."""
    if not flag(request, "check_db"):
        return encoded(_OK)
    edge = edge_of(request)
    database, info = await asyncio.gather(
        _asked(edge.records.ready()), _asked(edge.runtime.info()), return_exceptions=True
    )
    services = {"database": _said(database), "registry": _said(info), "actors": "unknown"}
    if isinstance(info, dict):
        ready = sum(member["state"] == "ready" for member in info["pool"])
        services["actors"] = "ok" if ready else "none is ready"
    is_ok = services["database"] == services["registry"] == "ok"
    told = {"ok": is_ok, "services": services}
    return json(told) if is_ok else json(told, {"retry-after": "1"}, 503)


async def _asked(question: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(SERVICE_S):
            return await question
    except TimeoutError:
        raise Unavailable(f"no answer within {SERVICE_S:g} s") from None


def _said(answer: object) -> str:
    if isinstance(answer, GreenroomError):
        return answer.message
    if isinstance(answer, BaseException):
        raise answer
    return "ok"
