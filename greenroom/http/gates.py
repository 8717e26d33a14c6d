"""Lets requests in, and asks what their callers may do (`greenroom.core.access`).

`Authenticated` gives each request an `Edge` of its own, with the gate of its caller; `edge_of`
returns it. Routes ask that gate before they ask the ports. What they pass to it is what a handler
of ``auth`` sees as ``value``: the keys are those of LangGraph's server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

import orjson
from starlette.authentication import AuthCredentials
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from greenroom.core import scopes
from greenroom.core.access import Authenticator, Value
from greenroom.core.errors import RUN_NOT_FOUND, GreenroomError, NotFound, Refused
from greenroom.core.ports import JsonObject
from greenroom.http.edge import EDGE, Edge, dialect_of
from greenroom.http.mounting import path_within
from greenroom.http.parameters import is_uuid
from greenroom.wire.encoding import is_object, loads
from greenroom.wire.models import RunCreate

OPEN_PATHS = frozenset(
    {"/", "/ok", "/info", "/docs", "/docs/oauth2-redirect", "/openapi.json", "/console"}
)
"""Paths, without the prefix of the mount, for which nobody is authenticated. They say nothing about
a caller's records."""

_OF_RUN = (
    *("input", "command", "config", "context", "stream_mode", "interrupt_before"),
    *("interrupt_after", "webhook", "feedback_keys"),
)
"""The fields of a run's body that a handler finds in ``kwargs``, and may change there."""


class Authenticated:
    """A middleware that lets requests in by an `Authenticator`.

    Its refusals have CORS headers, and a body that a handler wants is counted. A request that
    another one has let in is not asked again.

    Args:
        authenticator: asks who the caller is.
        edge: returns the application's context.
        is_open: whether nobody is authenticated for a request.
        refusing: returns what gives a refusal to its caller, e.g. counts it.
    """

    def __init__(
        self,
        app: ASGIApp,
        authenticator: Authenticator,
        edge: Callable[[], Edge],
        is_open: Callable[[Scope], bool],
        refusing: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    ) -> None:
        self._app = app
        self._authenticator = authenticator
        self._edge = edge
        self._is_open = is_open
        self._refusing = refusing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or EDGE in scope or self._is_open(scope):
            await self._app(scope, receive, send)
            return
        body = _Replayed(receive)
        request = Request(scope, body) if scope["type"] == "http" else HTTPConnection(scope)
        try:
            gate = await self._authenticator.enter(request)
        except GreenroomError as error:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})  # answered with HTTP 403
                return
            answer = JSONResponse({"detail": error.message}, error.status_hint, error.headers())
            await self._refusing(answer)(scope, body.again, send)
            return
        of_caller = {
            EDGE: replace(self._edge(), gate=gate),
            "user": gate.seen,
            "auth": AuthCredentials(gate.permissions),
        }
        await self._app({**scope, **of_caller}, body.again, send)


class _Replayed:
    """The messages of a request, for a second reader."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._read: list[Message] = []

    async def __call__(self) -> Message:
        message = await self._receive()
        self._read.append(message)
        return message

    async def again(self) -> Message:
        return self._read.pop(0) if self._read else await self._receive()


def is_public(scope: Scope) -> bool:
    """Whether a request is for one of `OPEN_PATHS`."""
    if scope["type"] != "http":
        return False
    path = path_within(scope)
    prefix = dialect_of(Request(scope)).prefix
    asked = path.removeprefix(prefix) or "/"
    # The console's files hold no data; what it shows, it asks the API for.
    return asked in OPEN_PATHS or asked.startswith("/console/")


# --- what handlers see ----------------------------------------------------------------------------


def id_value(value: str | None) -> UUID | str | None:
    """Returns an id as handlers get it; the gateway's mount knows threads whose id is no UUID."""
    return UUID(value) if value is not None and is_uuid(value) else value


def metadata_of(value: Value) -> JsonObject:
    """Returns the metadata that a handler has left in a value.

    Raises:
        Refused: they are no object.
    """
    found = value.get("metadata")
    if found is not None and not isinstance(found, Mapping):
        raise Refused("The handler of 'auth' has set metadata that are no object.", 500)
    return dict(cast("Mapping[str, Any]", found or {}))


async def reads_thread(edge: Edge, thread_id: str) -> scopes.Scope:
    """Returns the threads of which the caller may read."""
    return await edge.gate.allow("threads", "read", {"thread_id": id_value(thread_id)})


async def found_run(
    edge: Edge, run_id: str, missing: str = RUN_NOT_FOUND
) -> tuple[JsonObject, str]:
    """Returns a run whose thread is not named, and its thread.

    Args:
        missing: the message of the error.

    Raises:
        NotFound: the run does not exist.
    """
    run = await edge.records.get_run(None, run_id, scope=scopes.SERVER)
    # Also for a run that does not exist, so that the two answers are one.
    thread_id = None if run is None else str(run["thread_id"])
    scope = await edge.gate.allow("threads", "read", {"thread_id": id_value(thread_id)})
    if run is not None and not scope.is_everything:
        run = await edge.records.get_run(None, run_id, scope=scope)
    if run is None:
        raise NotFound(missing)
    return run, str(run["thread_id"])


async def require_all(edge: Edge) -> None:
    """Checks that the caller may search all threads, as what it asks for is about all of them.

    Raises:
        Refused: the caller may not.
    """
    value: Value = {"metadata": {}, "values": {}, "status": None, "limit": 0, "offset": 0}
    if not (await edge.gate.allow("threads", "search", value)).is_everything or value["metadata"]:
        raise Refused("This is about all users. Ask as a user who may search all threads.")


async def updates_thread(edge: Edge, thread_id: str) -> tuple[scopes.Scope, JsonObject]:
    """Returns the threads whose state the caller may change, and metadata of a handler."""
    value: Value = {"thread_id": id_value(thread_id), "metadata": {}}
    return await edge.gate.allow("threads", "update", value), metadata_of(value)


async def cancels(
    edge: Edge,
    thread_id: str | None,
    *,
    action: str,
    run_ids: list[str] | None,
    status: str | None = None,
) -> scopes.Scope:
    """Returns the threads whose runs the caller may cancel; a rollback deletes them, too."""
    value: Value = {
        "thread_id": id_value(thread_id),
        "action": action,
        "metadata": {
            "run_ids": None if run_ids is None else [id_value(each) for each in run_ids],
            "status": status,
        },
    }
    scope = await edge.gate.allow("threads", "update", value)
    each_run: list[str | None] = [*run_ids] if run_ids else [None]
    for run_id in each_run if action == "rollback" else []:
        deleted: Value = {"thread_id": id_value(thread_id), "run_id": id_value(run_id)}
        scope &= await edge.gate.allow("threads", "delete", deleted)
    return scope


async def creates_run(
    edge: Edge, body: RunCreate, *, thread_id: str | None, assistant_id: str | None, run_id: str
) -> tuple[scopes.Scope, RunCreate]:
    """Returns the threads on which the caller may create a run, and the body that a handler has
    left of it."""
    if edge.gate.is_open:
        return scopes.SERVER, body
    kwargs: JsonObject = {name: _changeable(getattr(body, name)) for name in _OF_RUN}
    config: JsonObject = kwargs["config"] or {}
    kwargs["config"] = {**config, "configurable": {**(config.get("configurable") or {})}}
    kwargs |= {
        "temporary": thread_id is None and body.on_completion != "keep",
        "subgraphs": bool(body.stream_subgraphs),
        "resumable": bool(body.stream_resumable),
        "checkpoint_during": body.checkpoint_during,
        "durability": body.durability,
    }
    value: Value = {
        "thread_id": id_value(thread_id),
        "assistant_id": id_value(assistant_id),
        "run_id": id_value(run_id),
        "status": "pending",
        "metadata": dict(body.metadata or {}),
        "prevent_insert_if_inflight": body.multitask_strategy == "reject",
        "multitask_strategy": body.multitask_strategy,
        "if_not_exists": body.if_not_exists or "reject",
        "after_seconds": body.after_seconds or 0,
        "kwargs": kwargs,
    }
    scope = await edge.gate.allow("threads", "create_run", value)
    left: Any = value.get("kwargs")
    if not is_object(left):
        raise Refused("The handler of 'auth' has set kwargs that are no object.", 500)
    changed: JsonObject = {name: left[name] for name in _OF_RUN if name in left}
    config = changed.get("config") or {}
    if changed.get("context") and config.get("configurable"):
        # Two names for the same values; a client gives one of them, and the handler the other.
        changed["context"] = {**changed["context"], **config["configurable"]}
        changed["config"] = {**config, "configurable": {}}
    return scope, body.model_copy(update={**changed, "metadata": metadata_of(value)})


async def makes_thread(
    edge: Edge, *, thread_id: str, assistant_id: str
) -> tuple[scopes.Scope, JsonObject]:
    """Returns the threads that a run may be on, and the metadata of a thread that is made for one.

    A handler is not asked about ``threads.create``: what it adds to the run's metadata, the thread
    gets, as if the run made it.
    """
    if edge.gate.is_open:
        return scopes.SERVER, {}
    scope, stamped = await creates_run(
        edge,
        RunCreate(assistant_id=assistant_id, if_not_exists="create"),
        thread_id=thread_id,
        assistant_id=assistant_id,
        run_id=thread_id,
    )
    return scope, dict(stamped.metadata or {})


async def user_of_runs(edge: Edge) -> str | None:
    """Returns the caller as a run or a cron stores it (`RunFacts.user`): sealed like its input."""
    user = edge.gate.user
    if user is None:
        return None
    return (await edge.sealing.apart(edge.sealing.seal_json, user.encode())).decode()


def _changeable(part: Any) -> Any:
    """Returns a part of a body that a handler may change in place."""
    if isinstance(part, orjson.Fragment):  # of a large body: not parsed before
        return loads(orjson.dumps(part))
    if isinstance(part, dict):
        return dict(cast("dict[str, Any]", part))
    return list(cast("list[Any]", part)) if isinstance(part, list) else part
