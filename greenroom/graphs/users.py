"""The user of a run, as its graph finds it in ``config["configurable"]``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from greenroom.wire.encoding import loads


class RunUser:
    """A user whom ``auth`` has let in: `langgraph_sdk.auth.types.BaseUser`.

    Each key that the handler has returned is an attribute and a key.
    """

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given

    @property
    def identity(self) -> str:
        return self._given["identity"]

    @property
    def display_name(self) -> str:
        return self._given["display_name"]

    @property
    def is_authenticated(self) -> bool:
        return self._given["is_authenticated"]

    @property
    def permissions(self) -> Sequence[str]:
        return self._given["permissions"]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._given[name]
        except KeyError:
            raise AttributeError(f"The user of this run has no {name!r}.") from None

    def __getitem__(self, key: str) -> Any:
        return self._given[key]

    def __contains__(self, key: object) -> bool:
        return key in self._given

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def __repr__(self) -> str:
        return f"<user {self.identity!r}>"  # without the rest, which may hold a token


def user_values(user: str | None) -> dict[str, Any]:
    """Returns what ``configurable`` says about the user of a run; nothing without ``auth``.

    Args:
        user: as of `RunFacts`.
    """
    if user is None:
        return {}
    given: dict[str, Any] = loads(user)
    return {
        "langgraph_auth_user": RunUser(given),
        "langgraph_auth_user_id": given["identity"],
        "langgraph_auth_permissions": given["permissions"],
    }
