"""Keeps each caller within its limits: requests, bytes of bodies, open answers, runs.

A request beyond a limit is answered 429 with ``Retry-After``, before anything is done. Answers to
counted requests carry ``RateLimit`` and ``RateLimit-Policy``, as the draft of the IETF has them
(draft-ietf-httpapi-ratelimit-headers). Health checks are not counted, and a cancel is counted but
never refused: Stop always stops.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from greenroom.core.errors import GreenroomError, TooManyRequests
from greenroom.core.limits import CallerKind
from greenroom.core.runs import RunRequest
from greenroom.http.edge import Edge
from greenroom.http.mounting import path_within
from greenroom.http.usage import CallerUsage

_CREDENTIALS = ("authorization", "x-api-key")
_HEALTH = frozenset({"/ok", "/api/ok"})
_CANCELS = re.compile(r"/cancel$")
# Answers that stay open by their nature. Of an endpoint that answers both ways, its stream is only
# known when it begins; it is counted then, and the next one is refused.
_OPEN = re.compile(r"/(stream|stream/events|wait|join)$")
_STREAM = "text/event-stream"

_caller: ContextVar[str | None] = ContextVar("greenroom_caller", default=None)


class LimitedCallers:
    """A middleware that counts requests, bodies and open answers, and refuses those beyond a limit.

    Args:
        edge: returns the application's context.
    """

    def __init__(self, app: ASGIApp, edge: Callable[[], Edge]) -> None:
        self._app = app
        self._edge = edge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = path_within(scope) if scope["type"] in ("http", "websocket") else None
        if path is None or path in _HEALTH:
            await self._app(scope, receive, send)
            return
        edge = self._edge()
        usage = edge.usage
        caller = caller_of(scope, usage.limits.by)
        token = _caller.set(caller)
        if usage.limits.counts_requests and usage.is_due():
            edge.connections.spawn(usage.tell(edge.records))
        counting = _Counting(usage, caller, send, opens=bool(_OPEN.search(path)))
        try:
            if not _CANCELS.search(path):
                declared = Headers(scope=scope).get("content-length", "")
                usage.check(
                    caller,
                    body_bytes=int(declared) if declared.isascii() and declared.isdigit() else 0,
                    opens=counting.opens,
                )
            counting.begin()
            await self._app(scope, counting.receiving(receive), counting.send)
        except TooManyRequests as error:
            if counting.has_begun:
                raise
            if scope["type"] == "websocket":
                await _refuse_socket(error, scope, send)
            else:
                await _refuse(error, usage.headers(caller))(scope, receive, send)
        finally:
            counting.end()
            _caller.reset(token)


class _Counting:
    """The counts of one request."""

    def __init__(self, usage: CallerUsage, caller: str, send: Send, *, opens: bool) -> None:
        self._usage = usage
        self._caller = caller
        self._send = send
        self.opens = opens
        self.has_begun = False
        self._is_open = False

    def begin(self) -> None:
        self.has_begun = True
        self._usage.count(self._caller, "requests", 1)
        if self.opens:
            self._open()

    def end(self) -> None:
        if self._is_open:
            self._usage.close(self._caller)

    def receiving(self, receive: Receive) -> Receive:
        async def counted() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                self._usage.count(self._caller, "body-bytes", len(message.get("body", b"")))
            return message

        return counted

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message["headers"])
            if headers.get("content-type", "").startswith(_STREAM):
                self._open()
            headers.update(self._usage.headers(self._caller))
        await self._send(message)

    def _open(self) -> None:
        if not self._is_open:
            self._is_open = True
            self._usage.open(self._caller)


def caller_of(scope: Scope, by: CallerKind) -> str:
    """Returns the name under which a request is counted.

    A credential is named by its hash. A request without what ``by`` says counts by its address.
    """
    user = scope.get("user")
    if by in ("auto", "owner") and user is not None and getattr(user, "is_authenticated", False):
        return f"owner:{user.identity}"
    if by == "key":
        headers = Headers(scope=scope)
        key = next((headers[name] for name in _CREDENTIALS if headers.get(name)), None)
        if key is not None:
            return f"key:{hashlib.sha256(key.encode()).hexdigest()}"
    client = scope.get("client")
    return f"address:{client[0] if client else 'unknown'}"


def counted(edge: Edge, body_bytes: int) -> None:
    """Counts a command that came over a WebSocket as a request.

    Raises:
        TooManyRequests: its caller may send no more.
    """
    caller = _caller.get()
    if caller is None or not edge.usage.limits.counts_requests:
        return
    edge.usage.check(caller, body_bytes=body_bytes, opens=False)
    edge.usage.count(caller, "requests", 1)
    edge.usage.count(caller, "body-bytes", body_bytes)


def current_caller(edge: Edge) -> str | None:
    """Returns the caller of the request that is being answered; None if its runs do not count."""
    return _caller.get() if edge.usage.limits.counts_runs else None


@asynccontextmanager
async def admitting(edge: Edge, requests: Sequence[RunRequest]) -> AsyncGenerator[None]:
    """Reserves runs that are about to be admitted; those that are reserved already count once.

    Raises:
        TooManyRequests: their caller would have more runs than it may have.
    """
    caller = requests[0].caller if requests else None
    async with _reserving(edge, caller, [each.run_id for each in requests]):
        yield


@asynccontextmanager
async def reserving(edge: Edge, run_ids: Sequence[str]) -> AsyncGenerator[None]:
    """As `admitting`, for runs that another process makes for the caller of the request."""
    async with _reserving(edge, current_caller(edge) if run_ids else None, run_ids):
        yield


@asynccontextmanager
async def _reserving(
    edge: Edge, caller: str | None, run_ids: Sequence[str]
) -> AsyncGenerator[None]:
    if caller is None:
        yield
        return
    limits = edge.usage.limits
    with edge.usage.creating(caller, run_ids) as (new, earlier):
        if new:
            found = await edge.records.runs_of_caller(caller, without=earlier | new)
            wanted = f"{len(new)} more" if len(new) > 1 else "one more"
            taken = found.in_flight + len(earlier)
            if limits.runs is not None and taken + len(new) > limits.runs:
                raise TooManyRequests(
                    f"You have {taken} runs that are not over. You may have {limits.runs}"
                    f" (limit_runs), and ask for {wanted}: wait for a run to end, or cancel one."
                )
            if limits.queued is not None and found.queued >= limits.queued:
                raise TooManyRequests(
                    f"You have {found.queued} runs that wait. You may have {limits.queued}"
                    f" (limit_queued), and ask for {wanted}: wait for one to begin, or cancel one."
                )
        yield


async def _refuse_socket(error: GreenroomError, scope: Scope, send: Send) -> None:
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1013, "reason": error.message[:120]})
        return
    answer = JSONResponse({"detail": error.message}, error.status_hint, error.headers())
    start = {"status": answer.status_code, "headers": answer.raw_headers}
    await send({"type": "websocket.http.response.start", **start})
    await send({"type": "websocket.http.response.body", "body": answer.body})


def _refuse(error: GreenroomError, headers: dict[str, str]) -> JSONResponse:
    return JSONResponse(
        {"detail": error.message}, error.status_hint, headers={**headers, **error.headers()}
    )
