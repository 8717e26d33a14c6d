"""Who asks, and what they may reach: the ports between the HTTP edge and `greenroom.auth`.

An `Authenticator` lets a request in and returns its `Gate`. Each route asks the gate once for each
thing that it does, and passes the answer, a `Scope`, on to the ports. Without ``auth`` there is no
authenticator, and the gate of all requests is `OPEN`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from greenroom.core.scopes import SERVER, Scope
from greenroom.core.targets import Target

Value = dict[str, Any]
"""What a route is about to do. A handler may change it, and the route does what it then says."""


class Gate(Protocol):
    """The gate of one request."""

    @property
    def is_open(self) -> bool:
        """Whether the server authenticates nobody."""
        ...

    @property
    def identity(self) -> str:
        """The caller's identity; empty if the server authenticates nobody."""
        ...

    @property
    def user(self) -> str | None:
        """The caller as JSON, for the graphs of the caller's runs; None as above."""
        ...

    @property
    def seen(self) -> Any:
        """The caller as handlers see them, for the ASGI scope's ``user``; None as above."""
        ...

    @property
    def permissions(self) -> Sequence[str]:
        """What the caller may do, in the words of ``authenticate``."""
        ...

    async def allow(self, resource: str, action: str, value: Value) -> Scope:
        """Returns the records that the caller may reach for an action.

        Args:
            resource: ``threads``, ``assistants``, ``crons`` or ``store``.
            action: e.g. ``read``.
            value: what the caller wants; it may be another afterwards.

        Raises:
            Refused: the caller may not do this, or the handler failed.
        """
        ...


class Authenticator(Protocol):
    """Lets requests in."""

    @property
    def openapi(self) -> Mapping[str, Any]:
        """The security schemes for ``/openapi.json``: ``auth.openapi`` of `langgraph.json`."""
        ...

    async def enter(self, request: Any) -> Gate:
        """Authenticates a request.

        Args:
            request: an ``HTTPConnection`` of Starlette: a request whose body has not been read, or
                the upgrade to a WebSocket.

        Raises:
            Refused: nobody is let in with these credentials.
        """
        ...


class _Open:
    """The gate of a server without ``auth``."""

    is_open = True
    identity = ""
    user = None
    seen = None
    permissions: Sequence[str] = ()

    async def allow(self, resource: str, action: str, value: Value) -> Scope:
        return SERVER


OPEN: Gate = _Open()


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheSpec:
    """``auth.cache`` of `langgraph.json`: users that are authenticated once for many requests.

    Attributes:
        keys: the names of the headers that decide; a request with other values is another one.
        ttl_s: how long a user is kept, in seconds.
        most: the most users that are kept.
    """

    keys: tuple[str, ...] = ("authorization", "x-api-key")
    ttl_s: float = 60.0
    most: int = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class AuthSpec(Target):
    """``auth`` of `langgraph.json`.

    Attributes:
        target: that of a `langgraph_sdk.Auth`.
        openapi: security schemes for ``/openapi.json``.
        cache: None: each request is authenticated.
    """

    openapi: Mapping[str, Any] = field(default_factory=dict[str, Any])
    cache: CacheSpec | None = None

    @property
    def subject(self) -> str:
        return "The authentication"

    @property
    def key(self) -> str:
        return "auth.path"
