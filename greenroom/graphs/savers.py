"""Wrappers of an execution's saver: events are durable first, no checkpoint is in the future, and a
value that cannot be kept ends the run at once.

LangGraph takes the checkpoint with the largest UUIDv6 as the latest, and a UUIDv6 is wall clock
time. On a machine whose clock is behind, a run's checkpoints would precede the one it started from,
and be invisible. So the read of a checkpoint from the future waits (`with_clock`).
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple

from greenroom.core.errors import GreenroomError, NotKept
from greenroom.graphs.loading import Saver

TURNS = 32
"""The turns of the event loop after which LangGraph has yielded all events in its queues: one (the
tests fail with less), and two more for every level of subgraphs."""


def emitting_first(
    saver: Saver, flush: Callable[[], Awaitable[None]], deciding: asyncio.Lock
) -> Saver:
    """Returns a saver that makes all reported events durable before each write.

    LangGraph saves a task's writes before it yields the task's events, so the write waits for those
    events.

    Args:
        flush: makes the emitted events durable.
        deciding: a lock, held while the emission of an event is being decided.
    """
    ordered = copy.copy(saver)

    async def first() -> None:
        while True:
            for _ in range(TURNS):
                await asyncio.sleep(0)
            if not deciding.locked():
                break
            async with deciding:
                pass
        await flush()

    async def put(config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        await first()
        return await saver.aput(config, checkpoint, metadata, new_versions)

    async def put_writes(config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        await first()
        await saver.aput_writes(config, writes, task_id, task_path)

    setattr(ordered, "aput", put)  # noqa: B010 - as in `with_clock`
    setattr(ordered, "aput_writes", put_writes)  # noqa: B010
    allowing(ordered, saver, lambda inner: emitting_first(inner, flush, deciding))
    return ordered


class Checked:
    """Says whether all that nodes have returned so far can be kept; made by `checking`."""

    def __init__(self) -> None:
        self._under_way = 0
        self._refused: NotKept | None = None
        self._changed = asyncio.Event()

    async def all_kept(self) -> None:
        """Waits until the values of the nodes that have ended are serialised.

        Raises:
            NotKept: one of them cannot be kept.
        """
        while self._under_way and self._refused is None:
            self._changed.clear()
            await self._changed.wait()
        if self._refused is not None:
            raise self._refused

    def begin(self) -> None:
        self._under_way += 1

    def end(self, refused: NotKept | None) -> None:
        self._under_way -= 1
        self._refused = self._refused or refused
        self._changed.set()


def checking(saver: Saver, checked: Checked) -> Saver:
    """Returns a saver that serialises a node's values where the node has ended, if ``saver`` can do
    that apart from writing (`PooledSaver.dumped`).

    LangGraph itself does not wait for its saver: it would execute the nodes that follow, and fail
    after the last one.
    """
    dumped = getattr(saver, "dumped", None)
    if dumped is None:
        return saver
    checker = copy.copy(saver)

    async def put(config: Any, writes: Any, task_id: str, task_path: str) -> None:
        refused = None
        try:
            writes = await dumped(writes)
        except NotKept as error:
            refused = error
            raise
        finally:
            checked.end(refused)
        await saver.aput_writes(config, writes, task_id, task_path)

    # No coroutine function: LangGraph calls it in the turn of the loop in which the node ends.
    def put_writes(config: Any, writes: Any, task_id: str, task_path: str = "") -> Any:
        checked.begin()
        return put(config, writes, task_id, task_path)

    setattr(checker, "aput_writes", put_writes)  # noqa: B010 - as in `with_clock`
    allowing(checker, saver, lambda inner: checking(inner, checked))
    return checker


def allowing(wrapper: Saver, saver: Saver, wrapped: Callable[[Saver], Saver]) -> None:
    """Has the types that LangGraph allows a graph reach the wrapped saver: a copy of the wrapper
    would still call the saver without them."""

    def with_allowlist(extra: Any) -> Saver:
        return wrapped(saver.with_allowlist(extra))

    setattr(wrapper, "with_allowlist", with_allowlist)  # noqa: B010 - as in `with_clock`


# --- clocks ---------------------------------------------------------------------------------------

MAX_CLOCK_WAIT_S = 5.0
_UUID_EPOCH_S = 0x01B21DD213814000 / 1e7
"""The time from the epoch of UUIDs, in 1582, to that of Unix."""


class ClockBehind(GreenroomError):
    """This machine's clock is so far behind that the run's checkpoints would be invisible."""


def with_clock(
    saver: Saver,
    *,
    now_s: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Saver:
    """Returns a saver whose read of a checkpoint waits until this machine's clock has passed it.

    LangGraph reads the checkpoint at the start of an execution anyway, so this costs no query.

    Raises:
        ClockBehind: raised by the read, if the wait would exceed `MAX_CLOCK_WAIT_S`.
    """
    clocked = copy.copy(saver)

    async def read(config: RunnableConfig) -> CheckpointTuple | None:
        saved = await saver.aget_tuple(config)
        if saved is not None:
            await _wait_for_clock(saved.checkpoint["id"], now_s, sleep)
        return saved

    # On the instance, since a wrapper class would have to repeat the whole interface.
    setattr(clocked, "aget_tuple", read)  # noqa: B010 - pyright rejects the plain assignment
    allowing(clocked, saver, lambda inner: with_clock(inner, now_s=now_s, sleep=sleep))
    return clocked


async def _wait_for_clock(
    checkpoint_id: str, now_s: Callable[[], float], sleep: Callable[[float], Awaitable[None]]
) -> None:
    written = UUID(checkpoint_id)
    if written.version != 6:
        return
    ticks = (written.time_low << 28) | (written.time_mid << 12) | (written.time_hi_version & 0xFFF)
    behind_s = ticks / 1e7 - _UUID_EPOCH_S - now_s()
    if behind_s <= 0:
        return
    if behind_s > MAX_CLOCK_WAIT_S:
        raise ClockBehind(
            f"The clock of this machine is {behind_s:.1f} s behind the one that wrote the thread's "
            "last checkpoint; synchronise the machines' clocks (NTP)."
        )
    await sleep(behind_s)
