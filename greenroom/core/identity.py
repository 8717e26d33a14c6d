"""Who a run is: the keys of a config that are the server's, wherever a client writes them.

A run reads and writes its own thread, and LangGraph finds the thread, the checkpoint and the saver
in ``config.configurable``. It also moves every key of ``config`` that it does not know there, over
what the server has set. So three rules hold, for the configs of runs, assistants and graphs:

    beside ``configurable``   only the fields of a ``RunnableConfig`` reach LangGraph
    ``__*``, ``langgraph_*``  the server's (and LangGraph's own): what a client sends is dropped
    ``thread_id`` and so on   the server's value wins

Neither LangGraph nor HTTP is known here. `greenroom.persistence.checkpoints` is the second lock: a
saver refuses every thread of the server that is not its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from uuid import UUID, uuid5

CONFIG_FIELDS = frozenset(
    {"configurable", "metadata", "tags", "run_name", "max_concurrency", "recursion_limit"}
)
"""What a client may say in a ``RunnableConfig``. ``callbacks`` cannot be said in JSON, and
``run_id`` is the server's."""

WHO = frozenset({"thread_id", "run_id", "graph_id", "assistant_id"})
"""Always the server's values."""

CHECKPOINT = frozenset({"checkpoint_id", "checkpoint_ns", "checkpoint_map"})
"""Where in its own thread a run begins; a client may choose that in ``configurable``."""

_GRAPHS = UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")


@lru_cache(maxsize=1024)
def system_assistant_id(graph_id: str) -> str:
    """The id of the assistant that every graph has, the same on every server.

    The reference derives it in the same way.
    """
    return str(uuid5(_GRAPHS, graph_id))


def is_reserved(key: str) -> bool:
    """Whether only the server and LangGraph may set this key of ``configurable``."""
    return key.startswith(("__", "langgraph_"))


def misplaced(config: Mapping[str, Any]) -> list[str]:
    """The keys beside ``configurable`` that would be the server's in it, in their order.

    ``run_id`` is a field of a ``RunnableConfig`` and no mistake; the server's value wins.
    """
    own = (WHO | CHECKPOINT | {"user_id"}) - {"run_id"}
    return [
        key
        for key, value in config.items()
        if value is not None and (key in own or is_reserved(key))
    ]


def unreserved(configurable: Mapping[str, Any]) -> dict[str, Any]:
    """``configurable`` without the keys that are not the client's to set."""
    return {key: value for key, value in configurable.items() if not is_reserved(key)}


def without(part: Mapping[str, Any]) -> dict[str, Any]:
    """A part of a config without every key that says which run or checkpoint it is."""
    return {
        key: value
        for key, value in part.items()
        if not is_reserved(key) and key not in WHO and key not in CHECKPOINT
    }


def fields_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with the fields that LangGraph is to see, none of them null.

    Its ``configurable`` has neither reserved keys nor anybody's identity.
    """
    kept = {
        key: value for key, value in config.items() if key in CONFIG_FIELDS and value is not None
    }
    if "configurable" in kept:
        kept["configurable"] = {
            key: value for key, value in unreserved(kept["configurable"]).items() if key not in WHO
        }
    return kept
