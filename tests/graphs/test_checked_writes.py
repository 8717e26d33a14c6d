"""A node's values are serialised where the node ends, and its events are durable before them."""

from __future__ import annotations

import asyncio
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from greenroom.graphs.execution import execute
from tests.graphs.graph_driver import given, order

MANY_TURNS = 200


class State(TypedDict, total=False):
    quick: int
    slow: int


class SlowlySerialising(InMemorySaver):
    """Takes many turns of the loop to serialise ``slow``, as a thread does."""

    def __init__(self, emitted: list[bytes]) -> None:
        super().__init__()
        self.emitted = emitted
        self.unseen: list[str] = []

    async def dumped(self, writes: Any) -> Any:
        if any(channel == "slow" for channel, _ in writes):
            for _ in range(MANY_TURNS):
                await asyncio.sleep(0)
        return writes

    async def aput_writes(
        self, config: Any, writes: Any, task_id: str, task_path: str = ""
    ) -> None:
        for channel, _ in writes:
            if channel in ("quick", "slow") and channel.encode() not in b"".join(self.emitted):
                self.unseen.append(channel)
        await super().aput_writes(config, writes, task_id, task_path)


async def test_a_write_waits_for_its_event_while_another_value_is_serialised() -> None:
    """Two nodes end at once; the event of the quick one is not emitted before the value of the
    slow one is checked, and so the quick one's write must wait as well."""
    emitted: list[bytes] = []
    saver = SlowlySerialising(emitted)
    builder = StateGraph(State)
    for name in ("quick", "slow"):
        builder.add_node(f"n_{name}", lambda state, name=name: {name: 1})
        builder.add_edge(START, f"n_{name}")

    async def flush() -> None:
        """Everything that was emitted is durable."""

    outcome = await execute(
        given(builder.compile()),
        order(input={"quick": 0}, stream_mode=["updates"], resumable=True),
        emit=lambda name, data: emitted.append(data),
        checkpointer=saver,
        store=None,
        flush=flush,
    )
    assert outcome.error is None
    assert saver.unseen == []
