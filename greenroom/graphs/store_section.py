"""Parses ``store`` of `langgraph.json`: the index for semantic search, and times to live."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from greenroom.core.errors import ConfigurationError
from greenroom.core.store import IndexSpec, StoreSpec
from greenroom.core.targets import Target
from greenroom.graphs.json_values import an_object, listed, minutes

EMBED = "store.index.embed"
"""The key of the embedding; also its name among the graphs of a check."""
MOST_DIMS = 4000
"""The longest vector that pgvector indexes."""

_KEYS = {
    "store": ("index", "ttl", "path"),
    "store.index": ("dims", "embed", "fields"),
    "store.ttl": ("default_ttl", "sweep_interval_minutes", "refresh_on_read"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingTarget(Target):
    """An embedding in a file."""

    @property
    def subject(self) -> str:
        return "The embedding of the store"

    @property
    def key(self) -> str:
        return EMBED


def parse_store(value: Any) -> tuple[StoreSpec, list[str]]:
    """Parses the section; returns it, and warnings about keys of it that have no effect.

    Raises:
        ConfigurationError: a value is invalid; the message names its key and the allowed values.
    """
    if value is None:
        return StoreSpec(), []
    given = an_object(value, "store")
    warnings = _unknown(given, "store")
    if given.get("path"):
        warnings.append(
            "'store.path' is set, but Greenroom keeps items in its own PostgreSQL database: a store"
            " of your own has no effect."
        )
    index = None
    if given.get("index") is not None:
        section = an_object(given["index"], "store.index")
        warnings += _unknown(section, "store.index")
        index = _index(section)
    if given.get("ttl") is None:
        return StoreSpec(index=index), warnings
    section = an_object(given["ttl"], "store.ttl")
    warnings += _unknown(section, "store.ttl")
    refresh = section.get("refresh_on_read", True)
    if not isinstance(refresh, bool):
        raise ConfigurationError("'store.ttl.refresh_on_read' must be true or false.")
    sweep = minutes(section.get("sweep_interval_minutes"), "store.ttl.sweep_interval_minutes")
    return StoreSpec(
        index=index,
        default_ttl_minutes=minutes(section.get("default_ttl"), "store.ttl.default_ttl"),
        refresh_on_read=refresh,
        sweep_interval_minutes=StoreSpec().sweep_interval_minutes if sweep is None else sweep,
    ), warnings


def is_file(embed: str) -> bool:
    """Returns whether an embedding is in a file, and not a provider's model."""
    source = embed.rpartition(":")[0]
    return source.endswith(".py") or "/" in source or "\\" in source


def _index(given: Mapping[str, Any]) -> IndexSpec:
    dims, embed = given.get("dims"), given.get("embed")
    if not isinstance(dims, int) or isinstance(dims, bool) or not 1 <= dims <= MOST_DIMS:
        raise ConfigurationError(
            f"'store.index.dims' is {dims!r}; it must be the length of the embedding's vectors, a"
            f" whole number from 1 to {MOST_DIMS}."
        )
    if not isinstance(embed, str) or not _is_target(embed):
        raise ConfigurationError(
            f"'{EMBED}' is {embed!r}; it must be 'provider:model', e.g."
            " 'openai:text-embedding-3-small', or './file.py:function'."
        )
    fields: Any = given.get("fields")
    if fields is None:
        return IndexSpec(dims=dims, embed=embed)
    if isinstance(fields, str):
        fields = [fields]
    paths = cast(list[Any], fields) if isinstance(fields, list) else []
    if not paths or not all(isinstance(path, str) and path for path in paths):
        raise ConfigurationError(
            '\'store.index.fields\' must be a list of paths, e.g. ["text", "tags[*]"];'
            ' "$" is the whole value.'
        )
    return IndexSpec(dims=dims, embed=embed, fields=tuple(paths))


def _is_target(embed: str) -> bool:
    if is_file(embed):
        return re.fullmatch(r".+:[A-Za-z_]\w*", embed) is not None
    return re.fullmatch(r"[\w-]+:\S+", embed) is not None


def _unknown(given: Mapping[str, Any], where: str) -> list[str]:
    unknown = [key for key in given if key not in _KEYS[where]]
    if not unknown:
        return []
    return [
        f"'{where}' has keys that Greenroom does not know, and they have no effect:"
        f" {listed(unknown)}."
    ]
