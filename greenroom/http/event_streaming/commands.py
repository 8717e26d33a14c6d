"""The commands of event streaming: what a client of a thread's log may ask for.

A command is an entry of `COMMANDS`, whichever way it comes: by POST, or over a WebSocket. It
returns the ``result`` of its answer, or raises `CommandError`, which is answered with status 200,
as LangGraph's server does. What a client should try again (429, 503) is an error of HTTP instead.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from greenroom.core.errors import (
    BadRequest,
    Conflict,
    GreenroomError,
    InvalidRequest,
    NotFound,
    Refused,
)
from greenroom.core.ports import JsonObject
from greenroom.http.event_streaming import run_commands, state_commands
from greenroom.http.event_streaming.asking import Asked, CommandError, ErrorCode
from greenroom.wire.encoding import is_object, loads

Command = Callable[[Asked], Awaitable[JsonObject]]


def refusal_of(error: GreenroomError) -> CommandError | None:
    """Returns how a refusal of the server is answered; None: with its own status."""
    match error:
        case InvalidRequest() | BadRequest() | NotFound():
            return CommandError("invalid_argument", error.message)
        case Refused() if error.status_hint in (401, 403):
            return CommandError("permission_denied", error.message)
        case Conflict():
            return CommandError("unknown_error", error.message)
        case _:
            return None


async def _needs_socket(asked: Asked) -> JsonObject:
    raise CommandError(
        "not_supported",
        "Subscriptions belong to a WebSocket; by HTTP, open POST /threads/{thread_id}/stream/events"
        " with the same filter.",
    )


COMMANDS: dict[str, Command] = {
    "run.start": run_commands.start,
    "input.respond": run_commands.respond,
    "input.inject": run_commands.inject,
    "agent.getTree": run_commands.get_tree,
    "state.get": state_commands.get,
    "state.listCheckpoints": state_commands.list_checkpoints,
    "state.fork": state_commands.fork,
    "subscription.subscribe": _needs_socket,
    "subscription.unsubscribe": _needs_socket,
    "subscription.reconnect": _needs_socket,
}
"""What can be asked by POST. A WebSocket has subscriptions of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Envelope:
    """A well-formed command."""

    id: int
    method: str
    params: JsonObject


def envelope_of(value: Any) -> Envelope:
    """Checks the form of a command. Raises BadRequest."""
    given: JsonObject = value if is_object(value) else {}
    number, method = given.get("id"), given.get("method")
    params: Any = given.get("params")
    if isinstance(params, orjson.Fragment):  # of a large body: not parsed before
        params = loads(orjson.dumps(params))
    if type(number) is not int or number < 0 or not isinstance(method, str):
        raise BadRequest("Protocol commands must include an integer id and string method.")
    return Envelope(id=number, method=method, params=params if is_object(params) else {})


async def performed(
    asked: Asked, envelope: Envelope, commands: Mapping[str, Command]
) -> JsonObject:
    """Performs a command; returns its answer.

    Raises:
        GreenroomError: the client should try again.
    """
    try:
        command = commands.get(envelope.method)
        if command is None:
            raise CommandError(
                "unknown_command", f"Unknown protocol command: {envelope.method[:80]}"
            )
        try:
            result = await command(asked)
        except GreenroomError as error:
            refusal = refusal_of(error)
            if refusal is None:
                raise
            raise refusal from None
    except CommandError as error:
        return error_of(envelope.id, error.code, error.message)
    # 0: whoever answers knows no position; a client goes by those of the events that it gets.
    return {
        "type": "success",
        "id": envelope.id,
        "result": result,
        "meta": {"applied_through_seq": 0},
    }


def error_of(number: Any, code: ErrorCode, message: str) -> JsonObject:
    """Returns the answer to a command that is refused."""
    return {"type": "error", "id": number, "error": code, "message": message}
