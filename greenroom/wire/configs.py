"""The config and the context of runs and assistants, as clients send them.

``config.configurable`` and ``context`` are two names for the same values: a client gives one of
them, and a body with both is refused. The keys that only the server sets are those of
`greenroom.core.identity`; the rules for runs and for assistants are the same, except that an
assistant has no thread, so it names no checkpoint either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from greenroom.core import identity
from greenroom.core.assistants import AssistantPatch
from greenroom.core.errors import BadRequest, InvalidRequest
from greenroom.core.ports import JsonObject

BOTH = (
    "Cannot specify both configurable and context. Prefer setting context alone. Context was "
    "introduced in LangGraph 0.6.0 and is the long term planned replacement for configurable."
)


def refuse_misplaced(config: Mapping[str, Any]) -> None:
    """Raises InvalidRequest if a key of the server stands beside ``configurable``."""
    keys = identity.misplaced(config)
    if keys:
        raise InvalidRequest(
            f"'config' has {', '.join(repr(key[:255]) for key in keys[:10])} beside "
            "'configurable'; remove it there. The path says which thread a run is on; name a "
            "checkpoint in 'checkpoint', and put keys of your own into 'config.configurable'."
        )


def refuse_both(config: Mapping[str, Any], context: Mapping[str, Any] | None) -> None:
    """Raises BadRequest if values are given under both names."""
    if config.get("configurable") and context:
        raise BadRequest(BOTH)


def of_assistant(
    config: Mapping[str, Any] | None, context: Mapping[str, Any] | None
) -> tuple[JsonObject, JsonObject]:
    """Returns config and context of a new assistant, with the same values under both names.

    Raises:
        InvalidRequest: a key of the server stands beside ``configurable``.
        BadRequest: values are given under both names.
    """
    change = patch_of(config, context)
    values = dict(change.values or {})
    return {**(change.rest or {}), **({"configurable": values} if values else {})}, values


def patch_of(config: Mapping[str, Any] | None, context: Mapping[str, Any] | None) -> AssistantPatch:
    """Returns the changes that a config and a context make; an empty config makes none.

    A config replaces all of the config, and the values if it has ``configurable``. A context
    replaces the values, and alone also the rest of the config, as in LangGraph's server. There,
    config and context then differ in some cases; here they never do.

    Raises:
        InvalidRequest, BadRequest: as `of_assistant`.
    """
    given = config or {}
    refuse_misplaced(given)
    refuse_both(given, context)
    rest = {
        key: value for key, value in given.items() if key != "configurable" and value is not None
    }
    values = None
    if given.get("configurable") is not None and not context:
        values = identity.without(given["configurable"])
    elif context is not None:
        values = identity.without(context)
    return AssistantPatch(rest=rest if given or context else None, values=values)
