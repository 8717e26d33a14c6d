"""The store: items that outlive threads, as the HTTP edge and the database speak about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from greenroom.core.errors import BadRequest, InvalidRequest
from greenroom.core.filters import Condition

Namespace = tuple[str, ...]
Vectors = list[tuple[str, list[float]]]
"""The vectors of an item, each with the name of its field."""

RESERVED_ROOT = "langgraph"
LONGEST_TTL_MINUTES = 5_256_000
"""Ten years."""
ANY_LABEL = "*"


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexSpec:
    """``store.index`` of `langgraph.json`.

    Attributes:
        dims: the numbers of a vector.
        embed: ``provider:model``, or ``path.py:attribute``.
        fields: the paths of the texts that are embedded; ``$`` is the whole value as JSON.
    """

    dims: int
    embed: str
    fields: tuple[str, ...] = ("$",)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreSpec:
    """``store`` of `langgraph.json`.

    Attributes:
        index: None: no semantic search.
        default_ttl_minutes: the time to live of an item that is put without one; None: for ever.
        refresh_on_read: whether a read begins an item's time to live anew, unless it says itself.
        sweep_interval_minutes: the pause between two deletions of expired items.
    """

    index: IndexSpec | None = None
    default_ttl_minutes: float | None = None
    refresh_on_read: bool = True
    sweep_interval_minutes: float = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemQuery:
    """A search for items.

    Attributes:
        prefix: the first labels of the items' namespaces.
        conditions: all hold for a found item.
        vector: the query's vector. The items with a vector come first, the most similar first, then
            the other ones; None: all in the order of their creation.
        refresh: begin the time to live of the found items anew.
    """

    prefix: Namespace = ()
    conditions: tuple[Condition, ...] = ()
    vector: list[float] | None = None
    limit: int = 10
    offset: int = 0
    refresh: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class NamespaceQuery:
    """A search for namespaces that have an item.

    Attributes:
        prefix, suffix: their first and last labels; ``*`` stands for any one label.
        max_depth: cut longer namespaces, and list each result once.
    """

    prefix: Namespace = ()
    suffix: Namespace = ()
    max_depth: int | None = None
    limit: int = 100
    offset: int = 0


class Items(Protocol):
    """The items in the database. Expired items do not exist, swept or not."""

    async def put_item(
        self,
        namespace: Namespace,
        key: str,
        value: bytes,
        *,
        vectors: Vectors,
        ttl_minutes: float | None,
    ) -> None:
        """Stores an item, or replaces its value, its vectors and its time to live.

        Args:
            value: a JSON object.
            ttl_minutes: None keeps it for ever.

        Raises:
            InvalidRequest: namespace and key are too long to be found again.
        """
        ...

    async def get_item(
        self, namespace: Namespace, key: str, *, refresh: bool
    ) -> dict[str, Any] | None: ...

    async def delete_item(self, namespace: Namespace, key: str) -> None: ...

    async def search_items(self, query: ItemQuery) -> list[dict[str, Any]]: ...

    async def list_namespaces(self, query: NamespaceQuery) -> list[list[str]]: ...


class Embedding(Protocol):
    """The embedding of ``store.index``, which is user code in another process."""

    async def embed_item(self, value: bytes, fields: Sequence[str] | None) -> Vectors:
        """Returns the vectors of an item.

        Args:
            value: the item's value as JSON.
            fields: the paths to embed; None: those of the configuration.

        Raises:
            Unanswered: the embedding failed or hangs; the message says so.
        """
        ...

    async def embed_query(self, text: str) -> list[float] | None:
        """Returns the vector of a query; None if it is similar to nothing (a zero vector)."""
        ...


def check_labels(namespace: Sequence[str]) -> Namespace:
    """Returns the namespace; raises InvalidRequest for a label that cannot be one."""
    for label in namespace:
        if not label or "." in label:
            # The words of LangGraph's server.
            raise InvalidRequest(
                f"Namespace label '{label[:80]}' must be a non-empty string without periods"
            )
    return tuple(namespace)


def check_namespace(namespace: Sequence[str]) -> Namespace:
    """Returns the namespace of a new item.

    Raises:
        InvalidRequest: a label cannot be one.
        BadRequest: it has no label, or its first one is reserved.
    """
    if not namespace:
        raise BadRequest("Namespace cannot be empty.")
    labels = check_labels(namespace)
    if labels[0] == RESERVED_ROOT:
        raise BadRequest(
            f'Root label for namespace cannot be "{RESERVED_ROOT}". Got: {labels[:10]}'
        )
    return labels
