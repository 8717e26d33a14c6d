"""The identity of a run: the config keys that only the server sets.

A run reads and writes its own thread, and LangGraph takes the thread, the checkpoint and the saver
from ``config.configurable``. LangGraph also moves every unknown key of ``config`` into
``configurable``, where it overwrites the server's value. So three rules hold for the configs of
runs, assistants and graphs:

    beside ``configurable``   only the fields of a ``RunnableConfig`` reach LangGraph
    ``__*``, ``langgraph_*``  reserved for the server and LangGraph; a client's value is dropped
    ``thread_id`` and so on   the server's value wins

This module knows neither LangGraph nor HTTP. `greenroom.persistence.checkpoints` is the second
safeguard: a saver refuses every other thread of the server.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from uuid import UUID, uuid5

CONFIG_FIELDS = frozenset(
    {"configurable", "metadata", "tags", "run_name", "max_concurrency", "recursion_limit"}
)
"""The fields of a ``RunnableConfig`` that a client may set. JSON cannot express ``callbacks``, and
the server sets ``run_id``."""

OWN_IDS = frozenset({"thread_id", "run_id", "graph_id", "assistant_id"})
"""The keys that identify a run; the server's values always win."""

CHECKPOINT = frozenset({"checkpoint_id", "checkpoint_ns", "checkpoint_map"})
"""The keys that select the checkpoint from which a run begins; a client may set them in
``configurable``."""

PROJECT = "__langsmith_project__"
EXAMPLE = "__langsmith_example_id__"
"""The keys of ``configurable`` for ``langsmith_tracer``; LangGraph's server has the same."""

_GRAPHS = UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")


@lru_cache(maxsize=1024)
def system_assistant_id(graph_id: str) -> str:
    """Returns the id of a graph's default assistant, which is the same on every server.

    LangGraph's server derives the id in the same way.
    """
    return str(uuid5(_GRAPHS, graph_id))


def is_reserved(key: str) -> bool:
    """Whether only the server and LangGraph may set this key of ``configurable``."""
    return key.startswith(("__", "langgraph_"))


def misplaced(config: Mapping[str, Any]) -> list[str]:
    """Returns the top-level keys of a config that the server sets in ``configurable``, in order.

    ``run_id`` is not among them: it is a field of a ``RunnableConfig``, where the server's value
    wins.
    """
    own = (OWN_IDS | CHECKPOINT | {"user_id"}) - {"run_id"}
    return [
        key
        for key, value in config.items()
        if value is not None and (key in own or is_reserved(key))
    ]


def unreserved(configurable: Mapping[str, Any]) -> dict[str, Any]:
    """Returns ``configurable`` without the reserved keys."""
    return {key: value for key, value in configurable.items() if not is_reserved(key)}


def without(part: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a part of a config without reserved keys and the keys of a run or a checkpoint."""
    return {
        key: value
        for key, value in part.items()
        if not is_reserved(key) and key not in OWN_IDS and key not in CHECKPOINT
    }


def fields_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config with only the fields that reach LangGraph, none of them null.

    Its ``configurable`` has neither reserved keys nor the keys that identify a run.
    """
    kept = {
        key: value for key, value in config.items() if key in CONFIG_FIELDS and value is not None
    }
    if "configurable" in kept:
        kept["configurable"] = {
            key: value
            for key, value in unreserved(kept["configurable"]).items()
            if key not in OWN_IDS
        }
    return kept


def uuid7_of(at_ms: int, seed: str) -> str:
    """Returns a UUIDv7 whose random bits follow from a seed.

    Args:
        at_ms: its time, in milliseconds since 1970.
        seed: names the object; another seed gives another id.
    """
    digest = hashlib.sha256(seed.encode()).digest()
    bits = int.from_bytes(at_ms.to_bytes(6, "big") + digest[:10], "big")
    bits = bits & ~(0xF << 76) | 7 << 76
    return str(UUID(int=bits & ~(0b11 << 62) | 0b10 << 62))
