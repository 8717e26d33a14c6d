"""Push notifications: whom a client wants to be told about a task, in both versions' words.

0.3   {"taskId", "pushNotificationConfig": {"id", "url", "token", "authentication":
      {"schemes", "credentials"}}}
1.0   {"taskId", "id", "url", "token", "authentication": {"scheme", "credentials"}}
"""

from __future__ import annotations

from typing import Any

from a2a.utils.errors import InvalidParamsError

from greenroom.core.ports import JsonObject
from greenroom.http import webhooks
from greenroom.http.edge import Edge
from greenroom.http.parameters import new_id
from greenroom.wire.encoding import is_list, is_object

MOST = 10
"""The most configurations of a task."""
_MOST_CHARACTERS = 2048


def content_of(edge: Edge, config: Any, version: str) -> tuple[str, JsonObject]:
    """Returns the id of a configuration, and what is stored of it.

    Args:
        config: as the client gives it.
        version: of the protocol, in whose words the receiver is told.

    Raises:
        InvalidParamsError: it is malformed.
        InvalidRequest: its URL is not allowed.
    """
    if not is_object(config):
        raise InvalidParamsError("The push notification config must be an object.")
    about: Any = config.get("authentication") or {}
    if not is_object(about):
        raise InvalidParamsError("authentication must be an object.")
    schemes: Any = about.get("schemes")
    scheme = schemes[0] if is_list(schemes) and schemes else about.get("scheme")
    found = {
        "url": config.get("url"),
        "token": config.get("token"),
        "scheme": scheme,
        "credentials": about.get("credentials"),
    }
    content = {key: _text(key, value) for key, value in found.items() if value}
    if "url" not in content:
        raise InvalidParamsError("The push notification config must have a url.")
    webhooks.checked(content["url"], allow_private=edge.settings.webhook_allow_private)
    config_id = _text("id", config.get("id") or new_id())
    return config_id, {**content, "version": version}


def _text(name: str, value: Any) -> str:
    # As a header it may have no line break.
    if not isinstance(value, str) or not value.isprintable() or len(value) > _MOST_CHARACTERS:
        raise InvalidParamsError(
            f"{name} of the push notification config must be a printable string of at most"
            f" {_MOST_CHARACTERS} characters."
        )
    return value


def shown(task_id: str, config: JsonObject, version: str) -> JsonObject:
    """Returns a configuration as clients see it, without its credentials."""
    found = {key: config[key] for key in ("id", "url", "token") if key in config}
    scheme = config.get("scheme")
    if version == "0.3":
        about = {"authentication": {"schemes": [scheme]}} if scheme else {}
        return {"taskId": task_id, "pushNotificationConfig": {**found, **about}}
    about = {"authentication": {"scheme": scheme}} if scheme else {}
    return {"taskId": task_id, **found, **about}
