"""Models of the request bodies of the store, as `greenroom.wire.models` has those of the others."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from greenroom.wire.models import MAX_OFFSET, Body, Json, Minutes, Name, Object, Offset

ItemLimit = Annotated[int, Field(ge=0, le=10_000)]


class ItemPut(Body):
    """An item of the store. ``ttl`` is in minutes; null keeps it for ever, and an absent one means
    the default of `langgraph.json`. ``index`` names the paths to embed, or is false."""

    namespace: list[str]
    key: str
    value: Object | Json
    index: Literal[False] | Annotated[list[Name], Field(max_length=100)] | None = None
    ttl: Minutes | None = None


class ItemDelete(Body):
    key: str
    namespace: list[str] | None = None


class ItemSearch(Body):
    namespace_prefix: list[str] | None = None
    filter: Object | None = None
    limit: ItemLimit | None = None
    offset: Offset | None = None
    query: str | None = None
    refresh_ttl: bool | None = None


class NamespaceSearch(Body):
    """Conditions of namespaces; ``*`` in ``prefix`` and ``suffix`` is any one label."""

    prefix: list[str] | None = None
    suffix: list[str] | None = None
    max_depth: Annotated[int, Field(ge=1, le=MAX_OFFSET)] | None = None
    limit: ItemLimit | None = None
    offset: Offset | None = None


STORE_BODIES: tuple[type[Body], ...] = (ItemPut, ItemDelete, ItemSearch, NamespaceSearch)
