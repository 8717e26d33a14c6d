"""The metadata that are stored with a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointMetadata, get_serializable_checkpoint_metadata

from greenroom.sealing.runs import PLAIN

KNOWN = frozenset({*PLAIN, "source", "step", "parents"})
"""Keys of metadata that no client gives, and that are read in the database."""

_OF_NODE = (
    "langgraph_step",
    "langgraph_node",
    "langgraph_triggers",
    "langgraph_path",
    "langgraph_checkpoint_ns",
)


def metadata_of(config: RunnableConfig, metadata: CheckpointMetadata) -> Mapping[str, Any]:
    """Returns the metadata that is stored with a checkpoint.

    A subgraph's metadata also has the name of its node in the parent, which LangGraph's own saver
    leaves out.
    """
    stored = get_serializable_checkpoint_metadata(config, metadata)
    if stored.get("langgraph_auth_user_id"):
        # Whoever reads a state need not know on whose behalf each of its runs was.
        del cast("dict[str, Any]", stored)["langgraph_auth_user_id"]
    if not config.get("configurable", {}).get("checkpoint_ns"):
        return stored
    known = config.get("metadata", {})
    return {**{name: known[name] for name in _OF_NODE if name in known}, **stored}
