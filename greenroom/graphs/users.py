"""The user of a run, as its graph finds it in ``config["configurable"]``."""

from __future__ import annotations

from typing import Any

from greenroom.core.users import KeyedUser
from greenroom.wire.encoding import loads


def user_values(user: str | None) -> dict[str, Any]:
    """Returns what ``configurable`` says about the user of a run; nothing without ``auth``.

    Args:
        user: as of `RunFacts`.
    """
    if user is None:
        return {}
    given: dict[str, Any] = loads(user)
    return {
        "langgraph_auth_user": KeyedUser(given),
        "langgraph_auth_user_id": given["identity"],
        "langgraph_auth_permissions": given["permissions"],
    }
