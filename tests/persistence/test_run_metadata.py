"""The metadata of a run: what an admission takes from the thread, and where it shows."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from greenroom.core.runs import RunRequest
from greenroom.persistence import journal
from greenroom.persistence.checkpoints import PooledSaver
from greenroom.persistence.database import Pool
from greenroom.persistence.journal import Write
from tests.run_records import request_of

THREAD = {"team": "blue", "k": "thread", "run": "thread"}
DEFAULTS = {"k": "assistant", "run": "assistant", "assistant": 1}
OWN = {"run": "run", "é": "ü"}
MERGED = {"assistant": 1, "team": "blue", "k": "thread", "run": "run", "é": "ü"}
INPUT = '{"config":{"metadata":'


def asked(**changes: Any) -> RunRequest:
    given: dict[str, Any] = {
        "run_id": str(uuid.uuid4()),
        "thread_id": "t",
        "assistant_id": str(uuid.uuid4()),
        "graph_id": "g",
        "kwargs": f'{INPUT}{{"old": 0}}}},"input":"ö 1.50"}}'.encode(),
        "metadata_at": (len(INPUT), len(INPUT) + len('{"old": 0}')),
        "metadata": json.dumps(OWN).encode(),
        "defaults": json.dumps(DEFAULTS).encode(),
        "multitask_strategy": "enqueue",
        "create_thread": True,
    }
    return request_of(**(given | changes))


async def commit(pool: Pool, write: Write) -> list[tuple[Any, ...]]:
    async with pool.connection() as connection:
        cursor = await connection.execute(write.sql.encode(), write.params)
        return [tuple(row.values()) for row in await cursor.fetchall()]


async def row(pool: Pool, sql: str) -> dict[str, Any]:
    async with pool.connection() as connection:
        found = await (await connection.execute(sql.encode())).fetchone()
    assert found is not None
    return found


async def a_thread(pool: Pool, metadata: Any = THREAD, config: str = "{}") -> None:
    async with pool.connection() as connection:
        await connection.execute(
            "INSERT INTO greenroom.threads (thread_id, metadata, config) VALUES ('t', %s, %s)",
            (json.dumps(metadata), config),
        )


@pytest.mark.parametrize("create_thread", [False, True])
async def test_a_runs_metadata_lie_over_its_threads_and_those_over_the_assistants(
    pool: Pool, create_thread: bool
) -> None:
    await a_thread(pool)
    request = asked(create_thread=create_thread)
    ((*_, metadata, _, _),) = await commit(pool, journal.admit(request, actor="x"))
    shown = MERGED
    assert json.loads(metadata) == shown
    stored = await row(pool, "SELECT metadata, kwargs::text AS kwargs FROM greenroom.runs")
    assert json.loads(json.dumps(stored["metadata"])) == shown
    assert json.loads(stored["kwargs"]) == {"config": {"metadata": shown}, "input": "ö 1.50"}
    assert stored["kwargs"].encode() == request.kwargs_with(metadata.encode())
    thread = await row(pool, "SELECT metadata FROM greenroom.threads")
    assert thread["metadata"].items() >= THREAD.items()
    assert "assistant" not in thread["metadata"]


async def test_an_admission_that_is_repeated_gives_the_same_metadata(pool: Pool) -> None:
    await a_thread(pool)
    request = asked()
    ((*_, first, _, _),) = await commit(pool, journal.admit(request, actor=None))
    async with pool.connection() as connection:
        await connection.execute('UPDATE greenroom.threads SET metadata = \'{"team": "red"}\'')
    assert [each[-3] for each in await commit(pool, journal.admit(request, actor=None))] == [first]
    assert [each[1] for each in await commit(pool, journal.created(request.run_id))] == [first]
    ((kwargs, _),) = await commit(pool, journal.start(request.run_id, 1, "x"))
    assert kwargs.encode() == request.kwargs_with(first.encode())


async def test_a_thread_that_the_run_makes_has_what_the_run_was_given(pool: Pool) -> None:
    request = asked(thread_config=b'{"tags": ["x"], "configurable": {}}')
    await commit(pool, journal.admit(request, actor=None))
    thread = await row(pool, "SELECT metadata, config FROM greenroom.threads")
    ids = {"graph_id": "g", "assistant_id": request.assistant_id}
    assert thread == {"metadata": OWN | ids, "config": {"tags": ["x"], "configurable": {}}}


async def test_a_threads_config_is_that_of_its_newest_run_that_had_one(pool: Pool) -> None:
    await a_thread(pool, config='{"tags": ["a"], "metadata": {"a": 1, "b": 1}}')
    for config in (b'{"metadata": {"b": 2}, "configurable": {}}', b'{"configurable": {}}'):
        await commit(pool, journal.admit(asked(thread_config=config), actor=None))
        thread = await row(pool, "SELECT config FROM greenroom.threads")
        assert thread["config"] == {"tags": ["a"], "metadata": {"b": 2}, "configurable": {}}


async def test_a_threads_metadata_forge_no_identity(pool: Pool) -> None:
    forged = {"thread_id": "f", "run_id": "f", "graph_id": "f", "assistant_id": "f"}
    await a_thread(pool, THREAD | forged)
    request = asked()
    ((*_, metadata, _, _),) = await commit(pool, journal.admit(request, actor=None))
    assert json.loads(metadata) == MERGED


async def test_kwargs_without_a_place_for_metadata_stay_as_they_are(pool: Pool) -> None:
    request = asked(kwargs=b'{"z": 1.50, "a": null}', metadata_at=None)
    await commit(pool, journal.admit(request, actor=None))
    stored = await row(pool, "SELECT kwargs::text AS kwargs FROM greenroom.runs")
    assert stored["kwargs"] == '{"z": 1.50, "a": null}'


async def test_the_checkpoints_of_a_subgraph_name_its_node(pool: Pool) -> None:
    class State(TypedDict, total=False):
        a: int

    inner = StateGraph(State)
    inner.add_node("one", lambda state: {"a": 1})
    inner.add_edge(START, "one")
    outer = StateGraph(State)
    outer.add_node("inner", inner.compile(checkpointer=True))
    outer.add_edge(START, "inner")
    graph = outer.compile(checkpointer=PooledSaver(pool))
    config: Any = {"configurable": {"thread_id": "t"}, "metadata": {"team": "blue"}}
    await graph.ainvoke({"a": 0}, config)
    saved = [each async for each in PooledSaver(pool).alist({"configurable": {"thread_id": "t"}})]
    found = {
        ns: next(s.metadata for s in saved if s.config["configurable"]["checkpoint_ns"] == ns)  # type: ignore[typeddict-item]
        for ns in ("", "inner")
    }
    assert found["inner"].items() >= {"langgraph_node": "inner", "langgraph_step": 1}.items()  # type: ignore[operator]
    assert found["inner"]["langgraph_path"] == ["__pregel_pull", "inner"]  # type: ignore[typeddict-item]
    assert "langgraph_node" not in found[""]
    assert all(each.get("team") == "blue" for each in found.values())
