"""Parses ``http`` of `langgraph.json`; an unknown key is an error."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from greenroom.core.edge_rules import Cors, HeaderSelection, HttpRules
from greenroom.core.errors import ConfigurationError
from greenroom.graphs.json_values import an_object, listed, refuse_unknown

PARTS = (*("assistants", "threads", "runs", "store", "mcp", "a2a", "meta", "ui", "webhooks"),)
"""What ``disable_<part>`` switches off."""
ORDERS = ("middleware_first", "auth_first")
CORS_KEYS = (
    *("allow_origins", "allow_origin_regex", "allow_methods", "allow_headers"),
    *("allow_credentials", "expose_headers", "max_age"),
)
HEADER_KEYS = ("includes", "excludes", "include", "exclude")
KEYS = (
    *("app", "middleware_order", "enable_custom_route_auth", "mount_prefix", "cors"),
    *("configurable_headers", "logging_headers", "openai"),
    *(f"disable_{part}" for part in PARTS),
)

_STRANGERS = ("https://a.stranger.invalid", "http://b.invalid:1234")
"""Origins that nobody names: an expression that matches both lets everybody in."""


def parse_http(value: Any) -> tuple[HttpRules, Sequence[str]]:
    """Returns the rules of ``http``, and a sentence for each key without effect.

    Raises:
        ConfigurationError: a key is unknown, or its value cannot be meant.
    """
    given = an_object(value if value is not None else {}, "http")
    refuse_unknown(given, KEYS, "http")
    cors, warnings = _cors(given.get("cors"))
    rules = HttpRules(
        app=_app(given.get("app")),
        middleware_order=_order(given.get("middleware_order")),
        custom_route_auth=_flag(given, "enable_custom_route_auth", "http"),
        mount_prefix=_prefix(given.get("mount_prefix")),
        cors=cors,
        configurable_headers=_headers(given.get("configurable_headers"), "configurable_headers")
        or HeaderSelection(),
        logging_headers=_headers(given.get("logging_headers"), "logging_headers"),
        openai=_flag(given, "openai", "http"),
        disabled=frozenset(part for part in PARTS if _flag(given, f"disable_{part}", "http")),
    )
    return rules, warnings


def _app(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not re.fullmatch(r"[^:]*[^:\s]:[A-Za-z_]\w*|.:.+:\w+", value):
        raise ConfigurationError(
            f"'http.app' is {value!r}; it must be './file.py:attribute' or"
            " 'package.module:attribute', of a Starlette or FastAPI application."
        )
    return value


def _order(value: Any) -> Any:
    if value is None:
        return ORDERS[0]
    if value not in ORDERS:
        raise ConfigurationError(
            f"'http.middleware_order' is {value!r}; it must be one of {listed(ORDERS)}."
        )
    return value


def _prefix(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*/?", value):
        raise ConfigurationError(
            f"'http.mount_prefix' is {value!r}; it must be a path that starts with '/', such as"
            " '/my-api' or '/api/v1', of letters, digits and '._~-'."
        )
    prefix = value.rstrip("/")
    if prefix == "/api":
        raise ConfigurationError(
            "'http.mount_prefix' is '/api', where the server has its second mount; choose another."
        )
    return prefix


def _cors(value: Any) -> tuple[Cors | None, Sequence[str]]:
    if value is None:
        return None, ()
    given = an_object(value, "http.cors")
    refuse_unknown(given, CORS_KEYS, "http.cors")
    origins = _names(given.get("allow_origins"), "http.cors.allow_origins")
    expression = given.get("allow_origin_regex")
    if expression is not None:
        try:
            compiled = re.compile(expression)
        except (re.error, TypeError):
            raise ConfigurationError(
                f"'http.cors.allow_origin_regex' is {expression!r}, which is no regular expression."
            ) from None
        everybody = all(compiled.fullmatch(origin) for origin in _STRANGERS)
    else:
        everybody = False
    everybody = everybody or "*" in (origins or ())
    credentials = _flag(given, "allow_credentials", "http.cors")
    age = given.get("max_age", 600)
    if not isinstance(age, int) or isinstance(age, bool) or not 0 <= age <= 10**9:
        raise ConfigurationError(
            f"'http.cors.max_age' is {age!r}; it must be a whole number of seconds, 0 or more."
        )
    cors = Cors(
        allow_origins=origins,
        allow_origin_regex=expression,
        allow_methods=_names(given.get("allow_methods"), "http.cors.allow_methods"),
        allow_headers=_names(given.get("allow_headers"), "http.cors.allow_headers"),
        allow_credentials=credentials and not everybody,
        expose_headers=_names(given.get("expose_headers"), "http.cors.expose_headers"),
        max_age_s=age,
    )
    if credentials and everybody:
        return cors, (
            "'http.cors.allow_credentials' has no effect, as the section lets pages of every origin"
            " in: any of them could act as the user who looks at it. Name the origins.",
        )
    return cors, ()


def _headers(value: Any, key: str) -> HeaderSelection | None:
    if value is None:
        return None
    where = f"http.{key}"
    given = an_object(value, where)
    refuse_unknown(given, HEADER_KEYS, where)
    found: dict[str, tuple[str, ...]] = {}
    for name in ("includes", "excludes"):
        other = name.removesuffix("s")
        if given.get(name) is not None and given.get(other) is not None:
            raise ConfigurationError(f"'{where}' has '{name}' and '{other}'; give one of them.")
        patterns = _names(given.get(name, given.get(other)), f"{where}.{name}") or ()
        found[name] = tuple(pattern.lower() for pattern in patterns)
    return HeaderSelection(**found)


def _names(value: Any, where: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    items = cast("list[Any]", value) if isinstance(value, list) else [None]
    names = tuple(item for item in items if isinstance(item, str) and item)
    if len(names) < len(items):
        raise ConfigurationError(f"'{where}' must be a list of strings that are not empty.")
    return names


def _flag(given: Mapping[str, Any], key: str, where: str) -> bool:
    value = given.get(key)
    if value is not None and not isinstance(value, bool):
        raise ConfigurationError(f"'{where}.{key}' is {value!r}; it must be true or false.")
    return bool(value)
