"""Applies a repeated update of a thread's state only once.

The metadata of every checkpoint that an update writes has the update's id. So a repetition, after
an inspector's death or a lost answer, finds the checkpoints of the first try:

    all checkpoints exist              nothing is written; the answer is that of the first try
    those of some supersteps exist     the rest is applied on top of them
    none exists                        the update is applied

Within a process, the updates of one thread follow one another, since the first try may still be at
work when the repetition arrives.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakValueDictionary

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.types import StateUpdate as NodeUpdate

from greenroom.graphs.loading import Graph, Saver
from greenroom.graphs.savers import allowing

UPDATE_KEY = "greenroom_update_id"
"""The key of the update's id in a checkpoint's metadata; clients do not see it."""

_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()


def one_at_a_time(thread_id: str) -> asyncio.Lock:
    """Returns the lock that a thread's updates hold in this process, from look-up to write."""
    lock = _locks.get(thread_id)
    if lock is None:
        lock = _locks[thread_id] = asyncio.Lock()
    return lock


def stamping(saver: Saver, update_id: str) -> Saver:
    """Returns a saver that writes the update's id into each checkpoint's metadata."""
    if not update_id:
        return saver
    stamped = copy.copy(saver)

    async def put(config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        named: Any = {**metadata, UPDATE_KEY: update_id}
        return await saver.aput(config, checkpoint, named, new_versions)

    # On the instance, since a wrapper class would have to repeat the whole interface.
    setattr(stamped, "aput", put)  # noqa: B010 - pyright rejects the plain assignment
    allowing(stamped, saver, lambda inner: stamping(inner, update_id))
    return stamped


async def apply_once(
    graph: Graph,
    saver: Saver,
    config: RunnableConfig,
    supersteps: Sequence[Sequence[NodeUpdate]],
    update_id: str,
) -> RunnableConfig:
    """Calls ``abulk_update_state`` for the supersteps that are not written yet.

    Args:
        graph: opened with a saver that is `stamping`.
        update_id: the update's id; an empty one applies the whole update.

    Returns:
        the config of the last checkpoint, as LangGraph returns it.
    """
    written: list[CheckpointTuple] = []
    if update_id:
        thread: RunnableConfig = {
            "configurable": {"thread_id": config.get("configurable", {})["thread_id"]}
        }
        found = saver.alist(thread, filter={UPDATE_KEY: update_id})
        written = sorted([each async for each in found], key=lambda each: each.checkpoint["id"])
    done, checkpoints = 0, 0
    while done < len(supersteps) and checkpoints + _writes(supersteps[done]) <= len(written):
        checkpoints += _writes(supersteps[done])
        done += 1
    if done == len(supersteps) and done:
        return _config_of(written[checkpoints - 1])
    if done:
        config = written[checkpoints - 1].config
    return await graph.abulk_update_state(config, supersteps[done:])


def _writes(superstep: Sequence[NodeUpdate]) -> int:
    """Returns the number of checkpoints that a superstep writes; a copy with values writes two."""
    copies = bool(superstep) and superstep[0].as_node == "__copy__"
    return 2 if copies and isinstance(superstep[0].values, list) and superstep[0].values else 1


def _config_of(written: CheckpointTuple) -> RunnableConfig:
    """Returns the config that the update returned which wrote this checkpoint."""
    where = dict(written.config.get("configurable", {}))
    if parents := written.metadata.get("parents"):
        where["checkpoint_map"] = {
            **parents,
            where.get("checkpoint_ns", ""): where["checkpoint_id"],
        }
    return {"configurable": where}


def shown(metadata: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Returns a checkpoint's metadata without the server's own keys."""
    if metadata is None:
        return None
    return {key: value for key, value in metadata.items() if key != UPDATE_KEY}
