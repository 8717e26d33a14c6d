"""Users: what ``@auth.authenticate`` returns, as handlers and graphs see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import orjson

from greenroom.core.users import KeyedUser

_PLAIN = ("identity", "display_name", "is_authenticated", "permissions")


class NoUser(TypeError):
    """``authenticate`` has returned something that is no user."""


@dataclass(frozen=True, slots=True)
class User:
    """A caller.

    Attributes:
        seen: the user as handlers get it.
        permissions: a list of strings.
        encoded: the user as JSON, for graphs: what was returned, and nothing else.
    """

    identity: str
    seen: Any
    permissions: list[str]
    encoded: str


def user_of(returned: Any) -> User:
    """Returns the user that ``authenticate`` has returned: a name, a dict, an object, or
    ``(permissions, user)``.

    Raises:
        NoUser: it has no identity.
    """
    permissions: Any = None
    if isinstance(returned, tuple) and len(cast("tuple[Any, ...]", returned)) == 2:
        permissions, returned = cast("tuple[Any, Any]", returned)
    if isinstance(returned, str):
        returned = {"identity": returned}
    if isinstance(returned, Mapping):
        given: dict[str, Any] = dict(cast("Mapping[str, Any]", returned))
    elif returned is not None and getattr(returned, "identity", None) is not None:
        given = _attributes(returned)
    else:
        given = {}
    if given.get("identity") in (None, ""):
        raise NoUser(
            "Expected a BaseUser instance with required property: identity (str). Optional"
            " properties are: is_authenticated (bool, defaults to True) and display_name (str,"
            f" defaults to identity). Got {type(returned)} instead"
        )
    if permissions is None:
        permissions = given.get("permissions") or []
    given["identity"] = str(given["identity"])
    complete = {
        **given,
        "display_name": given.get("display_name") or given["identity"],
        "is_authenticated": given.get("is_authenticated", True),
        "permissions": [permissions] if isinstance(permissions, str) else list(permissions),
    }
    seen = KeyedUser(complete) if isinstance(returned, Mapping) else _Delegate(complete, returned)
    return User(
        identity=complete["identity"],
        seen=seen,
        permissions=complete["permissions"],
        encoded=orjson.dumps(complete, default=str, option=orjson.OPT_NON_STR_KEYS).decode(),
    )


class _Delegate(KeyedUser):
    """A user made of an object, whose other attributes and methods stay reachable."""

    def __init__(self, given: Mapping[str, Any], original: Any) -> None:
        super().__init__(given)
        self._original = original

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._original, name)


def _attributes(user: Any) -> dict[str, Any]:
    dumped = getattr(user, "model_dump", None)  # a model of pydantic
    own = cast("Mapping[str, Any]", dumped() if callable(dumped) else getattr(user, "__dict__", {}))
    found = {key: value for key, value in own.items() if not key.startswith("_")}
    for name in _PLAIN:
        value = getattr(user, name, None)
        if value is not None and not callable(value):
            found[name] = value
    return found
