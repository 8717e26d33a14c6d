"""Routes of the server itself: health, information, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from greenroom.core.access import Value
from greenroom.core.errors import GreenroomError, Refused, Unavailable
from greenroom.http.answering import encoded, json
from greenroom.http.documents import doc
from greenroom.http.edge import edge_of
from greenroom.http.parameters import flag, text
from greenroom.wire import answers

router = APIRouter(tags=["System"])

T = TypeVar("T")

SERVICE_S = 3.0
"""How long a service may take to say that it is there."""
_OK = b'{"ok":true,"services":{}}'
_PACKAGES = ("greenroom", "langgraph", "langchain-core", "ray", "mcp", "a2a-sdk")
"""Whose versions ``/info`` tells."""
_CHECK = {"check_db": {"type": "boolean"}}


@router.get("/", summary="Whether the server is alive", **doc({200: answers.Ok}, query=_CHECK))
async def root(request: Request) -> Response:
    return await ok(request)


@router.get(
    "/ok",
    summary="Whether the server is alive",
    **doc({200: answers.Ok, 503: answers.Ok}, query=_CHECK),
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


@router.get("/info", summary="What this server is and can do", **doc({200: answers.Info}))
async def info(request: Request) -> Response:
    """``broken_graphs`` says why graphs cannot be loaded, with ``GREENROOM_ALLOW_BROKEN``."""
    edge = edge_of(request)
    broken = edge.broken_graphs
    return json(
        {
            "version": package_version("greenroom"),
            "langgraph_py_version": package_version("langgraph"),
            "flags": {
                "assistants": True,
                "crons": True,
                "langsmith": False,
                "langsmith_tracing_replicas": False,
                "langsmith_tracing_session_on_runs": False,
                "strict_resume": True,
                "shipped_graphs": edge.shipped_graphs,
                "mcp": True,
                "a2a": True,
                "openai": edge.settings.openai,
                "feedback": True,
                "store_index": edge.store.index is not None,
                "thread_ttl": edge.settings.thread_ttl,
                "auth": edge.authenticates,
            },
            "versions": {package: package_version(package) for package in _PACKAGES},
            "host": {"kind": "self-hosted"},
            "counts": await _counts(request),
            **({"broken_graphs": dict(broken)} if broken and not edge.authenticates else {}),
        }
    )


@router.get(
    "/metrics",
    summary="How busy the server is, for Prometheus or as JSON",
    **doc({200: object}, query={"format": {"type": "string", "enum": ["prometheus", "json"]}}),
)
async def metrics(request: Request) -> Response:
    """With ``auth`` for callers only to whom a handler shows all threads: the numbers are of all
    users."""
    edge = edge_of(request)
    value: Value = {"metadata": {}, "values": {}, "status": None, "limit": 0, "offset": 0}
    if not (await edge.gate.allow("threads", "search", value)).is_everything or value["metadata"]:
        raise Refused(
            "These numbers are those of all users. Ask as a user who may search all threads."
        )
    runtime = edge.runtime
    if text(request, "format") == "json":
        return json(await runtime.info())
    return PlainTextResponse(await runtime.metrics(), media_type="text/plain; version=0.0.4")


async def _counts(request: Request) -> dict[str, Any] | None:
    # Clients probe this route first, so it answers even while a registry restarts.
    if edge_of(request).authenticates:
        return None  # nobody is authenticated here, and they count the runs of all users
    try:
        return await edge_of(request).runtime.info()
    except Unavailable:
        return None


@cache
def package_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"  # the code runs from a checkout that is not installed
