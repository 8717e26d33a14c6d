"""Parses ``auth`` of `langgraph.json`: who is let in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from greenroom.core.access import AuthSpec, CacheSpec
from greenroom.core.errors import ConfigurationError
from greenroom.graphs.json_values import an_object, listed

KEYS = ("path", "openapi", "cache", "disable_studio_auth")
_CACHE = ("cache_keys", "ttl_seconds", "max_size")
_OPENAPI = ("securitySchemes", "security", "paths")
_TARGET = r"[^:]*[^:\s]:[A-Za-z_]\w*|.:.+:\w+"


def parse_auth(value: Any) -> tuple[AuthSpec | None, list[str]]:
    """Parses the section; returns it, and notes.

    Raises:
        ConfigurationError: a key is unknown or has a wrong value. Unlike elsewhere an unknown key
            is no note: what somebody has written there is meant to keep others out.
    """
    if value is None:
        return None, []
    given = an_object(value, "auth")
    _refuse_unknown(given, KEYS, "auth")
    notes: list[str] = []
    studio = given.get("disable_studio_auth")
    if studio is not None and not isinstance(studio, bool):
        raise ConfigurationError("'auth.disable_studio_auth' must be true or false.")
    if studio is False:
        notes.append(
            "'auth.disable_studio_auth' is false, but no request is let in because it says that it"
            " comes from Studio: its header is a claim that anybody can make."
        )
    cache, openapi = _cache(given.get("cache")), _openapi(given.get("openapi"))
    return AuthSpec(target=target_of(given.get("path")), openapi=openapi, cache=cache), notes


def target_of(path: Any, key: str = "'auth.path'") -> str:
    """Returns a target. Raises ConfigurationError if it is none."""
    if not isinstance(path, str) or not re.fullmatch(_TARGET, path):
        raise ConfigurationError(
            f"{key} is {path!r}; it must be './file.py:attribute' or 'package.module:attribute' of"
            " a langgraph_sdk.Auth, e.g. 'greenroom.auth:api_keys'."
        )
    return path


def _cache(value: Any) -> CacheSpec | None:
    if value is None:
        return None
    given = an_object(value, "auth.cache")
    _refuse_unknown(given, _CACHE, "auth.cache")
    default = CacheSpec()
    keys: Any = given.get("cache_keys")
    if keys is None:
        keys = list(default.keys)
    if (
        not isinstance(keys, list)
        or not keys
        or not all(isinstance(key, str) and key for key in cast("list[Any]", keys))
    ):
        raise ConfigurationError("'auth.cache.cache_keys' must be a list of names of headers.")
    return CacheSpec(
        keys=tuple(key.lower() for key in cast("list[str]", keys)),
        ttl_s=_positive(given.get("ttl_seconds"), default.ttl_s, "auth.cache.ttl_seconds"),
        most=int(_positive(given.get("max_size"), default.most, "auth.cache.max_size")),
    )


def _positive(value: Any, default: float, key: str) -> float:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise ConfigurationError(f"'{key}' must be a number greater than 0, not {value!r}.")
    return value


def _openapi(value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    given = an_object(value, "auth.openapi")
    _refuse_unknown(given, _OPENAPI, "auth.openapi")
    an_object(given.get("securitySchemes") or {}, "auth.openapi.securitySchemes")
    for path, methods in an_object(given.get("paths") or {}, "auth.openapi.paths").items():
        an_object(methods, f"auth.openapi.paths.{path}")
    if not isinstance(given.get("security", []), list):
        raise ConfigurationError("'auth.openapi.security' must be a list.")
    return given


def _refuse_unknown(given: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    unknown = [key for key in given if key not in known]
    if unknown:
        raise ConfigurationError(
            f"'{where}' has {listed(unknown)}, which Greenroom does not know; it may have"
            f" {listed(known)}."
        )
