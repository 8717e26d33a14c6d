"""The rules of ``http`` in `langgraph.json`: values for the HTTP edge, parsed elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

MiddlewareOrder = Literal["middleware_first", "auth_first"]

NEVER_PASSED = frozenset({"authorization", "x-api-key", "x-tenant-id", "x-service-key"})
"""Headers with credentials: neither a run nor a log line gets them, even when they are named."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeaderSelection:
    """Headers that are passed on.

    Attributes:
        includes: lower-case patterns with ``*``; a header must match one of them.
        excludes: patterns of headers that are left out nevertheless.
    """

    includes: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()

    def of(self, headers: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Returns the selected headers by lower-case name; of a repeated one the last value."""
        return {name.lower(): value for name, value in headers if self._takes(name.lower())}

    def _takes(self, name: str) -> bool:
        if name in NEVER_PASSED or any(fnmatchcase(name, each) for each in self.excludes):
            return False
        return any(fnmatchcase(name, each) for each in self.includes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cors:
    """Which pages of other origins may read answers. None: the server's own rule.

    Attributes:
        allow_origins: origins, or ``*``.
        allow_origin_regex: a regular expression that matches whole origins.
        allow_methods, allow_headers, expose_headers: names, or ``*``.
        allow_credentials: whether cookies may be sent along; never together with ``*``.
        max_age_s: how many seconds a browser may remember the answer.
    """

    allow_origins: tuple[str, ...] | None = None
    allow_origin_regex: str | None = None
    allow_methods: tuple[str, ...] | None = None
    allow_headers: tuple[str, ...] | None = None
    allow_credentials: bool = False
    expose_headers: tuple[str, ...] | None = None
    max_age_s: int = 600


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpRules:
    """The section ``http``.

    Attributes:
        app: ``./file.py:attribute`` of the custom application, or None.
        middleware_order: whether the application's middleware sees a request before or after it is
            authenticated.
        custom_route_auth: authenticate requests for the application's routes as well.
        mount_prefix: the path below which everything is served, without a slash at its end.
        cors: None without a ``cors`` key.
        configurable_headers: the headers that a run gets in ``config.configurable``.
        logging_headers: the headers that a request's log line shows; None: no line.
        openai: serve the routes of OpenAI's API.
        disabled: the parts that are switched off: ``assistants``, ``threads`` and so on.
    """

    app: str | None = None
    middleware_order: MiddlewareOrder = "middleware_first"
    custom_route_auth: bool = False
    mount_prefix: str = ""
    cors: Cors | None = None
    configurable_headers: HeaderSelection = field(default_factory=HeaderSelection)
    logging_headers: HeaderSelection | None = None
    openai: bool = False
    disabled: frozenset[str] = frozenset()
