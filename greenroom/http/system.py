"""Routes of the server itself: information, metrics."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from greenroom.core.errors import Unavailable
from greenroom.http.answering import json
from greenroom.http.documents import doc
from greenroom.http.edge import edge_of
from greenroom.http.gates import require_all
from greenroom.http.health import CHECK, ok
from greenroom.http.parameters import text
from greenroom.wire import answers

router = APIRouter(tags=["System"])


_PACKAGES = ("greenroom", "langgraph", "langchain-core", "ray", "mcp", "a2a-sdk")
"""Whose versions ``/info`` tells."""


@router.get("/", summary="Whether the server is alive", **doc({200: answers.Ok}, query=CHECK))
async def root(request: Request) -> Response:
    return await ok(request)


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
                "console": edge.settings.console,
                "feedback": True,
                "store_index": edge.store.index is not None,
                "thread_ttl": edge.settings.thread_ttl,
                "auth": edge.authenticates,
                "event_streaming": True,
            },
            "event_log": {
                "ttl_s": edge.settings.event_log_ttl_s,
                "max_bytes": edge.settings.event_log_max_bytes,
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
    await require_all(edge)
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
