"""Parses ``webhooks`` of `langgraph.json`; an unknown key is an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from greenroom.core.errors import ConfigurationError
from greenroom.core.webhook_rules import MAX_URL, PLACEHOLDER, UrlPolicy, WebhookRules
from greenroom.graphs.json_values import an_object, refuse_unknown

KEYS = ("env_prefix", "url", "headers")
URL_KEYS = (
    *("require_https", "allowed_domains", "allowed_ports", "max_url_length", "disable_loopback"),
)
OURS = ("content-type", "content-length", "host", "user-agent", "transfer-encoding", "connection")
"""Headers that a request needs as it is; so are those that begin with ``webhook-``."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_DOMAIN = re.compile(r"(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*|\[[0-9a-f:.]+\]")


def parse_webhooks(value: Any) -> WebhookRules:
    """Returns the rules of ``webhooks``.

    Raises:
        ConfigurationError: a key is unknown, or its value cannot be meant.
    """
    given = an_object(value if value is not None else {}, "webhooks")
    refuse_unknown(given, KEYS, "webhooks")
    prefix = given.get("env_prefix", "LG_WEBHOOK_")
    if not isinstance(prefix, str) or not re.fullmatch(r"[A-Za-z_]\w*", prefix):
        raise ConfigurationError(
            f"'webhooks.env_prefix' is {prefix!r}; it must be the beginning of a variable's name."
        )
    return WebhookRules(
        policy=_policy(given["url"]) if given.get("url") is not None else UrlPolicy(),
        headers=_headers(given.get("headers"), prefix),
    )


def _policy(value: Any) -> UrlPolicy:
    given = an_object(value, "webhooks.url")
    refuse_unknown(given, URL_KEYS, "webhooks.url")
    length = given.get("max_url_length", MAX_URL)
    if not _is_whole(length, 1, MAX_URL):
        raise ConfigurationError(
            f"'webhooks.url.max_url_length' is {length!r}; it must be a whole number from 1 to"
            f" {MAX_URL}."
        )
    return UrlPolicy(
        require_https=_flag(given, "require_https", True),
        allowed_domains=_domains(given.get("allowed_domains")),
        allowed_ports=_ports(given.get("allowed_ports")),
        max_length=length,
        loopback=not _flag(given, "disable_loopback", True),
    )


def _domains(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    items = cast("list[Any]", value) if isinstance(value, list) else [None]
    names = tuple(item.lower() for item in items if isinstance(item, str))
    if len(names) < len(items) or not all(_DOMAIN.fullmatch(name) for name in names):
        raise ConfigurationError(
            "'webhooks.url.allowed_domains' must be a list of hosts such as 'hooks.example.com', or"
            " '*.example.com' for those below it."
        )
    return names


def _ports(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    items = cast("list[Any]", value) if isinstance(value, list) else [None]
    ports = tuple(item for item in items if isinstance(item, int) and _is_whole(item, 1, 65535))
    if len(ports) < len(items):
        raise ConfigurationError("'webhooks.url.allowed_ports' must be a list of ports.")
    return ports


def _headers(value: Any, prefix: str) -> Mapping[str, str]:
    given = an_object(value if value is not None else {}, "webhooks.headers")
    for name, text in given.items():
        where = f"webhooks.headers.{name}"
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"'{where}' is not the name of a header.")
        if name.lower() in OURS or name.lower().startswith("webhook-"):
            raise ConfigurationError(f"'{where}' is a header that the server itself sets.")
        if not isinstance(text, str):
            raise ConfigurationError(f"'{where}' must be a string.")
        strange = [each for each in PLACEHOLDER.findall(text) if not each.startswith(prefix)]
        if strange:
            raise ConfigurationError(
                f"'{where}' names the variable {strange[0]}; only those that begin with"
                f" {prefix!r} may be sent ('webhooks.env_prefix')."
            )
        if "${{" in PLACEHOLDER.sub("", text):
            raise ConfigurationError(
                f"'{where}' has a placeholder that is none; write '${{{{ env.{prefix}NAME }}}}'."
            )
    return given


def _flag(given: Mapping[str, Any], key: str, default: bool) -> bool:
    value = given.get(key, default)
    if not isinstance(value, bool):
        raise ConfigurationError(f"'webhooks.url.{key}' is {value!r}; it must be true or false.")
    return value


def _is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
