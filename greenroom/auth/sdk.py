"""What `langgraph_sdk.Auth` keeps to itself: the handlers that its decorators have registered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from langgraph_sdk import Auth

Handler = Callable[..., Awaitable[Any]]


def authenticate_of(auth: Auth) -> Callable[..., Any] | None:
    """Returns the function under ``@auth.authenticate``."""
    return cast(Any, auth)._authenticate_handler


def handler_of(auth: Auth, resource: str, action: str) -> Handler | None:
    """Returns the one handler that decides: the most specific one; None if there is none."""
    inside = cast(Any, auth)
    handlers: dict[tuple[str, str], list[Handler]] = inside._handlers
    for key in ((resource, action), (resource, "*"), ("*", action)):
        if found := handlers.get(key):
            return found[-1]
    every: list[Handler] = inside._global_handlers
    return every[-1] if every else None
