"""Users as handlers and graphs see them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class KeyedUser:
    """A user whom ``auth`` has let in: `langgraph_sdk.auth.types.BaseUser`.

    Each key that the handler has returned is an attribute and a key.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
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
            raise AttributeError(f"The user has no {name!r}.") from None

    def __getitem__(self, key: str) -> Any:
        return self._given[key]

    def __contains__(self, key: object) -> bool:
        return key in self._given

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def __repr__(self) -> str:
        return f"<user {self.identity!r}>"  # without the rest, which may hold a token
