"""An update of a thread's state that is asked for again is applied once.

Its id stands in the metadata of every checkpoint that it writes, so that what was written is found
again by whoever is asked after the first one died, or after the first one's answer was lost:

    all its checkpoints are there      the answer of the first time, and nothing is written
    some of its supersteps' are        the rest is applied, on top of them
    none is                            it is applied

Updates of one thread follow one another in a process: the first one may still be at work when it is
asked for again.
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

UPDATE_KEY = "greenroom_update_id"
"""Of a checkpoint's metadata; clients do not see it."""

_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()


def one_at_a_time(thread_id: str) -> asyncio.Lock:
    """What updates of a thread hold, in this process, from the look until they have written."""
    lock = _locks.get(thread_id)
    if lock is None:
        lock = _locks[thread_id] = asyncio.Lock()
    return lock


def stamping(saver: Saver, update_id: str) -> Saver:
    """The saver, but the checkpoints that it writes name their update."""
    if not update_id:
        return saver
    stamped = copy.copy(saver)

    async def put(config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        named: Any = {**metadata, UPDATE_KEY: update_id}
        return await saver.aput(config, checkpoint, named, new_versions)

    # On the instance, since a wrapper class would have to repeat the whole interface.
    setattr(stamped, "aput", put)  # noqa: B010 - pyright rejects the plain assignment
    return stamped


async def apply_once(
    graph: Graph,
    saver: Saver,
    config: RunnableConfig,
    supersteps: Sequence[Sequence[NodeUpdate]],
    update_id: str,
) -> RunnableConfig:
    """``abulk_update_state``, of what is not there yet.

    Args:
        graph: opened with a saver that is `stamping`.
        update_id: without one it is applied, whatever is there.

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
    """How many checkpoints a superstep writes: a copy with values is a copy, then an update."""
    copies = bool(superstep) and superstep[0].as_node == "__copy__"
    return 2 if copies and isinstance(superstep[0].values, list) and superstep[0].values else 1


def _config_of(written: CheckpointTuple) -> RunnableConfig:
    """What the update that wrote a checkpoint returned."""
    where = dict(written.config.get("configurable", {}))
    if parents := written.metadata.get("parents"):
        where["checkpoint_map"] = {
            **parents,
            where.get("checkpoint_ns", ""): where["checkpoint_id"],
        }
    return {"configurable": where}


def shown(metadata: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A checkpoint's metadata without what is the server's own."""
    if metadata is None:
        return None
    return {key: value for key, value in metadata.items() if key != UPDATE_KEY}
