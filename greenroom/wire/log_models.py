"""The bodies of event streaming, for the description of the API; our own code parses them."""

from __future__ import annotations

from typing import Any, Literal

from greenroom.wire.models import Body, Object


class ThreadCommand(Body):
    """A command to a thread."""

    id: int
    method: str
    params: Object | None = None


class CommandAnswer(Body):
    """The answer to a command, also to one that is refused."""

    type: Literal["success", "error"]
    id: int | None = None
    result: Any = None
    error: str | None = None
    message: str | None = None
    meta: Object | None = None


class LogSubscription(Body):
    """What a client wants of a thread's log."""

    channels: list[str]
    namespaces: list[list[str]] | None = None
    depth: int | None = None
    since: int | None = None


LOG_BODIES: tuple[type[Body], ...] = (ThreadCommand, LogSubscription)
