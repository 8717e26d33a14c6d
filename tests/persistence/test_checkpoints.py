"""The fenced saver: who may write, what a takeover waits for, what a rollback undoes."""

from __future__ import annotations

import asyncio
import copy
import math
import operator
import uuid
from typing import Annotated, Any

import psycopg
import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict

from greenroom.core.errors import Fenced
from greenroom.langgraph_internals import CONFIG_KEY_DURABILITY
from greenroom.persistence import journal
from greenroom.persistence.bulk import Bulk
from greenroom.persistence.checkpoints import PooledSaver
from greenroom.persistence.database import Connection, Pool, open_pool, terminate_backends
from greenroom.persistence.fence import fenced
from greenroom.persistence.fenced_saver import FencedSaver
from greenroom.persistence.upkeep import delete_saved_heads

BOUND_S = 30.0


async def a_run(pool: Pool, thread_id: str = "t", *, attempt: int = 1) -> str:
    run_id = str(uuid.uuid4())
    async with pool.connection() as conn:
        await conn.execute(
            "INSERT INTO greenroom.runs (run_id, thread_id, assistant_id, graph_id, status,"
            " attempt, kwargs, multitask_strategy)"
            " VALUES (%s, %s, %s, 'g', 'running', %s, '{}', 'reject')",
            (run_id, thread_id, uuid.uuid4(), attempt),
        )
    return run_id


async def take_over(pool: Pool, run_id: str) -> None:
    async with pool.connection() as conn:
        await conn.execute(
            "UPDATE greenroom.runs SET attempt = attempt + 1 WHERE run_id = %s", (run_id,)
        )


def at(thread_id: str, ns: str = "") -> Any:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns}}


async def put(
    saver: PooledSaver, thread_id: str, *, durability: str | None = None, **values: Any
) -> Any:
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = values
    versions: Any = dict.fromkeys(values, "1")
    checkpoint["channel_versions"] = versions
    config = at(thread_id)
    if durability is not None:
        config["configurable"][CONFIG_KEY_DURABILITY] = durability
    return await saver.aput(config, checkpoint, {"source": "loop", "step": 1}, versions)


async def rows(pool: Pool, sql: str) -> list[Any]:
    async with pool.connection() as conn:
        return await (await conn.execute(sql.encode())).fetchall()


async def until_blocked(pool: Pool) -> None:
    """Returns when some statement in the database waits for a lock."""
    async with asyncio.timeout(BOUND_S):
        while not await rows(  # noqa: ASYNC110
            pool,
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database()",
        ):
            await asyncio.sleep(0)


# --- the fence ----------------------------------------------------------------------------------


async def test_the_current_attempt_writes_and_reads_back(pool: Pool) -> None:
    saver = FencedSaver(pool, run_id=await a_run(pool), attempt=1)
    config = await put(saver, "t", text="a", items=[1, 2])
    await saver.aput_writes(config, [("items", [3])], "task")
    found = await saver.aget_tuple(at("t"))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"text": "a", "items": [1, 2]}
    assert found.pending_writes == [("task", "items", [3])]


async def test_the_first_run_of_a_thread_looks_for_no_checkpoint_until_it_has_written_one(
    pool: Pool,
) -> None:
    await put(PooledSaver(pool), "t", text="what nobody told it of")
    saver = FencedSaver(pool, run_id=await a_run(pool), attempt=1, is_first=True)
    theirs = copy.copy(saver)  # as an execution makes one
    assert await saver.aget_tuple(at("t")) is None
    await put(theirs, "t", text="a")
    found = await saver.aget_tuple(at("t"))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"text": "a"}


async def test_a_superseded_attempt_is_fenced_and_writes_nothing(pool: Pool) -> None:
    run_id = await a_run(pool)
    saver = FencedSaver(pool, run_id=run_id, attempt=1)
    config = await put(saver, "t", items=[1])
    await take_over(pool, run_id)
    with pytest.raises(Fenced, match="Attempt 1 of run"):
        await put(saver, "t", items=[2], more={"a": 1})
    with pytest.raises(Fenced):
        await saver.aput_writes(config, [("items", [3]), ("items", [4])], "task")
    assert len(await rows(pool, "SELECT 1 FROM checkpoints")) == 1
    assert len(await rows(pool, "SELECT 1 FROM checkpoint_blobs")) == 1
    assert await rows(pool, "SELECT 1 FROM checkpoint_writes") == []
    assert await saver.aget_tuple(at("t")) is not None


@pytest.mark.parametrize("status", ["pending", "success", "interrupted"])
async def test_a_run_that_is_not_running_is_fenced(pool: Pool, status: str) -> None:
    run_id = await a_run(pool)
    await rows(pool, f"UPDATE greenroom.runs SET status = '{status}' RETURNING 1")
    with pytest.raises(Fenced):
        await put(FencedSaver(pool, run_id=run_id, attempt=1), "t", x=1)


async def test_a_run_that_was_deleted_is_fenced(pool: Pool) -> None:
    with pytest.raises(Fenced):
        await put(FencedSaver(pool, run_id=str(uuid.uuid4()), attempt=1), "t", x=1)


async def test_a_connection_that_met_the_fence_is_good_for_others(pool: Pool) -> None:
    run_id = await a_run(pool, attempt=2)
    for _ in range(20):
        with pytest.raises(Fenced):
            await put(FencedSaver(pool, run_id=run_id, attempt=1), "t", x=[1])
    await put(FencedSaver(pool, run_id=run_id, attempt=2), "t", x=[1])
    assert pool.get_stats().get("connections_lost", 0) == 0


async def test_another_error_in_the_pipeline_is_not_the_fence(pool: Pool) -> None:
    run_id = await a_run(pool)
    async with pool.connection() as conn:
        with pytest.raises(psycopg.errors.UndefinedTable):
            async with fenced(conn, run_id, 1):
                await conn.execute("INSERT INTO nowhere VALUES (1)")


async def test_a_takeover_waits_for_a_writer_in_mid_transaction(pool: Pool) -> None:
    """The writer has passed the fence, the takeover comes, the writer commits, then it is over."""
    run_id = await a_run(pool)
    saver = FencedSaver(pool, run_id=run_id, attempt=1)
    async with pool.connection() as writer:
        async with fenced(writer, run_id, 1):
            await writer.execute(
                "INSERT INTO checkpoint_writes VALUES ('t','','c','k',0,'x','',''::bytea)"
            )
            await (await writer.execute("SELECT 1")).fetchall()
            takeover = asyncio.create_task(take_over(pool, run_id))
            await until_blocked(pool)
            assert not takeover.done()
    await asyncio.wait_for(takeover, BOUND_S)
    assert len(await rows(pool, "SELECT 1 FROM checkpoint_writes")) == 1
    with pytest.raises(Fenced):
        await put(saver, "t", x=1)


async def test_a_takeover_ends_writers_that_were_stopped_in_mid_pipeline(
    pool: Pool, dsn: str
) -> None:
    """Two writers of the old actor hold the fence and never go on; the takeover ends both."""
    run_id = await a_run(pool)
    old = await open_pool(dsn, application_name="greenroom:old", min_size=2, max_size=2)
    stopped = [await old.getconn() for _ in range(2)]
    pipelines = [conn.pipeline() for conn in stopped]
    for conn, pipeline in zip(stopped, pipelines, strict=True):
        await pipeline.__aenter__()
        await (await conn.execute("SELECT greenroom.fence(%s, 1)", (run_id,))).fetchall()
        await conn.execute(
            "INSERT INTO checkpoint_writes VALUES ('t','','c',%s,0,'x','',''::bytea)",
            (str(id(conn)),),
        )
    async with pool.connection() as conn:
        assert await terminate_backends(conn, "old") == 2
        assert await terminate_backends(conn, "older") == 0
    await asyncio.wait_for(take_over(pool, run_id), BOUND_S)
    for conn, pipeline in zip(stopped, pipelines, strict=True):
        with pytest.raises(psycopg.OperationalError):
            await pipeline.__aexit__(None, None, None)
        await old.putconn(conn)
    assert await rows(pool, "SELECT 1 FROM checkpoint_writes") == []
    # Woken up, the old actor sends its write again, and meets the fence.
    with pytest.raises(Fenced):
        await put(FencedSaver(old, run_id=run_id, attempt=1), "t", x=1)
    await old.close()


async def test_the_server_ends_a_writer_that_is_stopped_for_too_long(dsn: str, pool: Pool) -> None:
    run_id = await a_run(pool)
    old = await open_pool(dsn, application_name="greenroom:old", transaction_timeout_s=0.2)
    conn = await old.getconn()
    pipeline = conn.pipeline()
    await pipeline.__aenter__()
    await (await conn.execute("SELECT greenroom.fence(%s, 1)", (run_id,))).fetchall()
    await asyncio.wait_for(take_over(pool, run_id), BOUND_S)
    with pytest.raises(psycopg.OperationalError):
        await pipeline.__aexit__(None, None, None)
    await old.putconn(conn)
    await old.close()


async def test_executions_over_one_pool_do_not_wait_for_each_other(pool: Pool) -> None:
    """Three savers are inside a write at the same time, and a fourth reads."""
    savers = [FencedSaver(pool, run_id=await a_run(pool), attempt=1) for _ in range(3)]
    inside = asyncio.Barrier(4)

    async def write(saver: FencedSaver) -> None:
        async with saver._cursor(pipeline=True):
            await inside.wait()

    async def read(saver: FencedSaver) -> None:
        async with saver._cursor():
            await inside.wait()

    async with asyncio.timeout(BOUND_S):
        await asyncio.gather(*map(write, savers), read(savers[0]))


async def test_one_execution_writes_in_parallel(pool: Pool) -> None:
    saver = FencedSaver(pool, run_id=await a_run(pool), attempt=1)
    config = await put(saver, "t", x=[1])
    tasks = [saver.aput_writes(config, [("x", n)], f"task{n}") for n in range(30)]
    await asyncio.wait_for(asyncio.gather(*tasks), BOUND_S)
    assert len(await rows(pool, "SELECT 1 FROM checkpoint_writes")) == 30


async def test_values_that_json_cannot_hold_come_back_as_they_were(pool: Pool) -> None:
    saver = FencedSaver(pool, run_id=await a_run(pool), attempt=1)
    values = {"nul": "a\0b", "big": 2**80, "inf": math.inf, "ok": "ü", "none": None, "f": 0.5}
    await put(saver, "t", **values)
    found = await saver.aget_tuple(at("t"))
    assert found is not None
    assert found.checkpoint["channel_values"] == values


# --- threads and runs ---------------------------------------------------------------------------


class Approval(TypedDict):
    log: Annotated[list[str], operator.add]


def approval_graph(saver: PooledSaver) -> Any:
    """A node that asks in a subgraph, one that reports the answer."""

    def ask(state: Approval) -> Any:
        return {"log": [interrupt("delete the database?")]}

    inner = StateGraph(Approval).add_node("ask", ask).add_edge(START, "ask").compile()
    outer = StateGraph(Approval)
    outer.add_node("first", lambda state: {"log": ["first"]})
    outer.add_node("inner", inner)
    outer.add_node("last", lambda state: {"log": ["done"]})
    outer.add_edge(START, "first").add_edge("first", "inner")
    outer.add_edge("inner", "last").add_edge("last", END)
    return outer.compile(checkpointer=saver)


async def save_heads(conn: Connection, run_id: str, thread_id: str) -> None:
    """As the registry does in the transaction that starts the first attempt of a run."""
    await conn.execute("SELECT greenroom.save_heads(%s, %s, NULL)", (run_id, thread_id))


async def run_graph(pool: Pool, value: Any, thread_id: str = "t") -> tuple[str, Any]:
    run_id = await a_run(pool, thread_id)
    async with pool.connection() as conn:
        await save_heads(conn, run_id, thread_id)
    graph = approval_graph(FencedSaver(pool, run_id=run_id, attempt=1))
    config = {"configurable": {"thread_id": thread_id}, "metadata": {"run_id": run_id}}
    return run_id, await graph.ainvoke(value, config, durability="sync")


async def roll_back(pool: Pool, run_id: str) -> None:
    async with pool.connection() as conn:
        epoch = await journal.take_epoch(conn, 1)
    await Bulk(pool, epoch, lambda: None).roll_back(run_id, "t")


async def snapshot(pool: Pool) -> list[list[Any]]:
    tables = ("checkpoints", "checkpoint_writes", "checkpoint_blobs")
    return [await rows(pool, f"SELECT * FROM {name} ORDER BY {name}::text") for name in tables]


async def test_a_rolled_back_answer_is_forgotten(pool: Pool) -> None:
    """YES is rolled back, then the user says NO: what counts is NO."""
    await run_graph(pool, {"log": []})
    before = await snapshot(pool)
    run_id, result = await run_graph(pool, Command(resume="YES"))
    assert "YES" in result["log"]
    for _ in range(2):
        await roll_back(pool, run_id)
        assert await snapshot(pool) == before
    _, result = await run_graph(pool, Command(resume="NO"))
    assert result["log"].count("NO") == result["log"].count("done")
    assert "YES" not in result["log"]


async def test_a_rollback_waits_for_a_write_that_is_under_way(pool: Pool) -> None:
    """A background write has passed the fence and is not committed when its run is rolled back."""
    run_id = await a_run(pool)
    saver = FencedSaver(pool, run_id=run_id, attempt=1)
    config = {**at("t"), "metadata": {"run_id": run_id}}
    writing, commit = asyncio.Event(), asyncio.Event()

    async def late_write() -> None:
        async with pool.connection() as conn, conn.transaction():
            await conn.execute("SELECT greenroom.fence(%s, 1)", (run_id,))
            await conn.execute(
                "INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, checkpoint,"
                " metadata) VALUES ('t', '', 'late', '{\"channel_versions\": {}}',"
                " jsonb_build_object('run_id', %s::text))",
                (run_id,),
            )
            writing.set()
            await commit.wait()

    async with asyncio.timeout(BOUND_S):
        write = asyncio.create_task(late_write())
        await writing.wait()
        rolling = asyncio.create_task(roll_back(pool, run_id))
        await until_blocked(pool)
        commit.set()
        await asyncio.gather(write, rolling)
    assert await rows(pool, "SELECT checkpoint_id FROM checkpoints") == []
    with pytest.raises(Fenced):
        await saver.aput(config, empty_checkpoint(), {"source": "loop", "step": 1}, {})


async def test_only_the_first_attempt_copies_the_heads(pool: Pool) -> None:
    """The second attempt starts after the first one has written; the copy is still from before."""
    await run_graph(pool, {"log": []})
    before = await snapshot(pool)
    run_id, _ = await run_graph(pool, Command(resume="YES"))
    async with pool.connection() as conn:
        await save_heads(conn, run_id, "t")
    await roll_back(pool, run_id)
    assert await snapshot(pool) == before


async def test_copies_of_finished_runs_are_swept_but_for_the_newest(pool: Pool) -> None:
    await run_graph(pool, {"log": []})
    await run_graph(pool, Command(resume="YES"))
    await run_graph(pool, {"log": []})
    assert await delete_saved_heads(pool, 0) == 0  # none is over
    async with pool.connection() as conn:
        await conn.execute("UPDATE greenroom.runs SET status = 'success'")
    assert await delete_saved_heads(pool, 3600) == 0
    assert await delete_saved_heads(pool, 0) == 1
    assert len(await rows(pool, "SELECT DISTINCT run_id FROM greenroom.saved_heads")) == 1
    assert await delete_saved_heads(pool, 0) == 0
