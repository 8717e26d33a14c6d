"""The writes of one attempt: in their order, and not past one that failed."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any

import pytest
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from greenroom.core.errors import Fenced
from greenroom.core.inputs import TAKEN, Taking
from greenroom.langgraph_internals import CONFIG_KEY_DURABILITY
from greenroom.persistence.database import Pool
from greenroom.persistence.fenced_saver import FencedSaver
from greenroom.persistence.ordered_writes import WAITING_BYTES, OrderedWrites
from greenroom.persistence.saving import LARGE, Save, Saving
from tests.persistence.test_checkpoints import BOUND_S, a_run, at, put, rows, take_over

OWNER = ("run", 1)


class Gate(Saving):
    """Saves that end when they are let through, or fail."""

    def __init__(self) -> None:
        self.saved: list[Save] = []
        self.begun = asyncio.Event()
        self.open = asyncio.Event()
        self.failure: Exception | None = None

    async def save(self, item: Save) -> None:
        self.saved.append(item)
        self.begun.set()
        await self.open.wait()
        if self.failure is not None:
            raise self.failure


def item(n: int, *, key: str | None = None, size_bytes: int = 1, blobs: int = 1) -> Save:
    given = [{"n": f"{n}.{blob}", "blob": blob} for blob in range(blobs)]
    return Save(
        owner=OWNER,
        key=(key or str(n),),
        rows={"checkpoints": given},
        blobs=[b"%d.%d" % (n, blob) for blob in range(blobs)],
        size_bytes=size_bytes,
    )


def told(save: Save) -> list[tuple[str, str]]:
    """Each row with its blob."""
    return [
        (row["n"], (save.blobs[row.get("blob", 0)] or b"").decode())
        for row in save.rows["checkpoints"]
    ]


def unhindered() -> tuple[Gate, OrderedWrites]:
    """Writes that are saved at once, and what is saved."""
    gate = Gate()
    gate.open.set()
    return gate, OrderedWrites(gate)


async def test_what_a_short_run_saves_is_one_write() -> None:
    gate, writes = unhindered()
    async with asyncio.timeout(BOUND_S):
        for n in range(4):
            await writes.write(item(n), wait=False)
            await asyncio.sleep(0)
        assert not gate.saved
        assert not writes.is_idle
        await writes.all_written()
        assert writes.is_idle
    assert [[row for row, _ in told(save)] for save in gate.saved] == [["0.0", "1.0", "2.0", "3.0"]]


async def test_what_nobody_waits_for_is_written_soon() -> None:
    gate, writes = unhindered()
    async with asyncio.timeout(BOUND_S):
        await writes.write(item(1), wait=False)
        await gate.begun.wait()
    assert [row for row, _ in told(gate.saved[0])] == ["1.0"]


async def test_who_waits_has_what_came_before_written_too() -> None:
    gate, writes = unhindered()
    async with asyncio.timeout(BOUND_S):
        await writes.write(item(1), wait=False)
        await writes.write(item(2), wait=True)
    assert [[row for row, _ in told(save)] for save in gate.saved] == [["1.0", "2.0"]]


async def test_what_comes_while_a_write_is_under_way_follows_in_one_piece() -> None:
    gate = Gate()
    writes = OrderedWrites(gate)
    async with asyncio.timeout(BOUND_S):
        for n in range(4):
            await writes.write(item(n, blobs=2), wait=False)
            await gate.begun.wait()
        assert [told(save) for save in gate.saved] == [[("0.0", "0.0"), ("0.1", "0.1")]]
        gate.open.set()
        await writes.all_written()
    assert len(gate.saved) == 2
    assert told(gate.saved[1]) == [(f"{n}.{b}", f"{n}.{b}") for n in (1, 2, 3) for b in (0, 1)]
    assert gate.saved[1].owner == OWNER


async def test_two_writes_of_one_row_are_two_statements_in_their_order() -> None:
    gate = Gate()
    writes = OrderedWrites(gate)
    async with asyncio.timeout(BOUND_S):
        for n, key in enumerate(("first", "same", "same", "other")):
            await writes.write(item(n, key=key), wait=False)
        gate.open.set()
        await writes.all_written()
    assert [[row for row, _ in told(save)] for save in gate.saved] == [
        ["0.0", "1.0"],
        ["2.0", "3.0"],
    ]


async def test_large_writes_of_a_task_wait_for_the_checkpoint_with_the_same_bytes() -> None:
    gate, writes = unhindered()
    large = b"x" * (WAITING_BYTES + 1)
    rows = {"inserts": [{"n": "task"}]}
    of_task = Save(owner=OWNER, key=("w",), rows=rows, blobs=(large,), size_bytes=len(large))
    rows = {"blobs": [{"n": "channel"}]}
    of_step = Save(
        owner=OWNER, key=("c",), rows=rows, blobs=(large,), size_bytes=1, ends_superstep=True
    )
    async with asyncio.timeout(BOUND_S):
        await writes.write(item(0), wait=False)
        task = asyncio.create_task(writes.write(of_task, wait=False))
        await asyncio.sleep(0)
        assert not gate.saved
        await asyncio.gather(task, writes.write(of_step, wait=False))
    (save,) = gate.saved
    assert [*save.blobs].count(large) == 1
    assert save.rows["inserts"][0]["blob"] == save.rows["blobs"][0]["blob"]


async def test_large_writes_of_a_task_are_written_without_a_checkpoint_too() -> None:
    gate, writes = unhindered()
    async with asyncio.timeout(BOUND_S):
        await writes.write(item(1, size_bytes=WAITING_BYTES + 1), wait=False)
    assert len(gate.saved) == 1


async def test_bytes_that_two_items_have_are_sent_once_if_they_are_large() -> None:
    gate, writes = unhindered()
    large, small = b"x" * (LARGE + 1), b"y"
    async with asyncio.timeout(BOUND_S):
        for n in range(3):
            row = {"n": str(n), "blob": 1}
            blobs = [small, large]
            rows = {"checkpoints": [row]}
            await writes.write(Save(owner=OWNER, key=(str(n),), rows=rows, blobs=blobs), wait=False)
        await writes.all_written()
    (save,) = gate.saved
    assert sorted(map(len, filter(None, save.blobs))) == [1, 1, 1, LARGE + 1]
    assert [save.blobs[row["blob"]] for row in save.rows["checkpoints"]] == [large] * 3
    rows = {}
    blobs: list[bytes | None] = [None]
    save.add_to(rows, blobs, counted_from=1, owner=None)
    assert [blobs[row["blob"] - 1] for row in rows["checkpoints"]] == [large] * 3


async def test_who_waits_returns_after_its_own_write() -> None:
    gate = Gate()
    writes = OrderedWrites(gate)
    waiting = asyncio.create_task(writes.write(item(1), wait=True))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    gate.open.set()
    await asyncio.wait_for(waiting, BOUND_S)


async def test_an_execution_waits_once_too_many_bytes_wait() -> None:
    gate = Gate()
    writes = OrderedWrites(gate)
    await asyncio.wait_for(writes.write(item(1, size_bytes=WAITING_BYTES), wait=False), BOUND_S)
    over = asyncio.create_task(writes.write(item(2), wait=False))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not over.done()
    gate.open.set()
    async with asyncio.timeout(BOUND_S):
        await over
        # Everything is written, so there is room again.
        gate.open.clear()
        await writes.write(item(3, size_bytes=WAITING_BYTES), wait=False)
        gate.open.set()
        await writes.all_written()


@pytest.mark.parametrize("wait", [True, False])
async def test_nothing_is_written_after_a_write_that_failed(wait: bool) -> None:
    gate = Gate()
    gate.failure = Fenced("another attempt has the run")
    writes = OrderedWrites(gate)
    async with asyncio.timeout(BOUND_S):
        first = [asyncio.create_task(writes.write(item(n), wait=wait)) for n in range(3)]
        await asyncio.sleep(0)
        gate.open.set()
        done = await asyncio.gather(*first, return_exceptions=True)
        assert [isinstance(each, Fenced) for each in done] == [wait] * 3
        with pytest.raises(Fenced):
            await writes.all_written()
        with pytest.raises(Fenced):
            await writes.write(item(9), wait=False)
        await writes.settled()
    assert len(gate.saved) == 1


async def test_a_caller_that_is_cancelled_leaves_its_write_in_its_place() -> None:
    gate = Gate()
    writes = OrderedWrites(gate)
    waiting = [asyncio.create_task(writes.write(item(n), wait=True)) for n in range(3)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    gate.open.set()
    await asyncio.wait_for(writes.settled(), BOUND_S)
    assert [row for save in gate.saved for row, _ in told(save)] == ["0.0", "1.0", "2.0"]


@pytest.mark.parametrize("takes", [True, False])
async def test_a_task_waits_for_its_writes_if_they_have_what_a_client_said(takes: bool) -> None:
    gate = Gate()
    saver = FencedSaver(None, gate, run_id="run", attempt=1, thread_id="t")  # type: ignore[arg-type]
    config: Any = at("t")
    config["configurable"] |= {"checkpoint_id": "c", CONFIG_KEY_DURABILITY: "async"}
    if takes:
        config["configurable"][TAKEN] = [Taking(input_id="i", number=1, at_ms=1, attempt=1)]
    putting = asyncio.create_task(saver.aput_writes(config, [("x", [1])], "task"))
    async with asyncio.timeout(BOUND_S):
        if takes:
            await gate.begun.wait()
            assert not putting.done()
            assert gate.saved[0].rows["taken"]
        else:
            await putting
        gate.open.set()
        await putting
        await saver.all_written()


# --- with a saver and a database ------------------------------------------------------------------


class Log(TypedDict):
    log: Annotated[list[int], operator.add]


def counting() -> Any:
    def step(state: Log) -> Any:
        return {"log": [len(state["log"])]}

    builder = StateGraph(Log)
    for n in range(5):
        builder.add_node(str(n), step)
        builder.add_edge(str(n - 1) if n else START, str(n))
    return builder


@pytest.mark.parametrize("durability", ["async", "sync", "exit"])
async def test_the_chain_of_checkpoints_is_whole_with_every_durability(
    pool: Pool, durability: Any
) -> None:
    saver = FencedSaver(pool, run_id=await a_run(pool), attempt=1, thread_id="t", is_first=True)
    graph = counting().compile(checkpointer=saver)
    config: Any = {"configurable": {"thread_id": "t"}}
    async with asyncio.timeout(BOUND_S):
        await graph.ainvoke({"log": []}, config, durability=durability)
        await saver.all_written()
    found = await rows(pool, "SELECT checkpoint_id, parent_checkpoint_id FROM checkpoints")
    assert len(found) == (1 if durability == "exit" else 7)
    stored = {row["checkpoint_id"] for row in found}
    if durability != "exit":
        assert {row["parent_checkpoint_id"] for row in found} - stored == {None}
    assert (await graph.aget_state(config)).values == {"log": [0, 1, 2, 3, 4]}


async def test_a_read_sees_what_the_saver_took(pool: Pool) -> None:
    saver = FencedSaver(pool, run_id=await a_run(pool), attempt=1)
    config: Any = at("t")
    async with asyncio.timeout(BOUND_S):
        for n in range(20):
            await put(saver, "t", durability="async", x=n)
            found = await saver.aget_tuple(config)
            assert found is not None
            assert found.checkpoint["channel_values"] == {"x": n}
            listed = [each async for each in saver.alist(config)]
            assert len(listed) == n + 1


async def test_only_with_durability_async_a_put_returns_before_its_commit(pool: Pool) -> None:
    async with pool.connection() as somebody, somebody.transaction():
        run_id = await a_run(pool)
        await somebody.execute("LOCK TABLE checkpoints")
        for durability in ("async", "sync", "exit", None):
            saver = FencedSaver(pool, run_id=run_id, attempt=1)
            doing = asyncio.create_task(put(saver, "t", durability=durability, x=1))
            done, _ = await asyncio.wait([doing], timeout=0.3)
            assert bool(done) is (durability == "async"), durability
            doing.cancel()
            await asyncio.gather(doing, return_exceptions=True)


async def test_a_fence_is_met_at_the_latest_at_the_end(pool: Pool) -> None:
    run_id = await a_run(pool)
    saver = FencedSaver(pool, run_id=run_id, attempt=1)
    await take_over(pool, run_id)
    async with asyncio.timeout(BOUND_S):
        await put(saver, "t", durability="async", x=1)
        with pytest.raises(Fenced):
            await saver.all_written()
        with pytest.raises(Fenced):
            await put(saver, "t", durability="async", x=2)
    assert not await rows(pool, "SELECT 1 FROM checkpoints")
