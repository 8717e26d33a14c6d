"""Records in the API's shape, and searches that stay fast and never fail on what people store."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import orjson
import pytest

from greenroom.core.errors import Conflict, DatabaseUnavailable, InvalidRequest
from greenroom.core.identity import system_assistant_id
from greenroom.core.scopes import SERVER
from greenroom.core.searches import (
    AssistantFilter,
    Page,
    RunFilter,
    ThreadFilter,
)
from greenroom.persistence.database import Pool, open_pool
from greenroom.persistence.records import (
    WALK,
    PostgresRecords,
    name_assistants,
    register_assistants,
)
from greenroom.persistence.values import store_values

NEWEST: Any = {"limit": 10, "offset": 0, "sort_by": "updated_at", "descending": True}


@pytest.fixture
def records(pool: Pool) -> PostgresRecords:
    return PostgresRecords(pool)


async def a_thread(records: PostgresRecords, thread_id: str, **metadata: Any) -> Any:
    return await records.create_thread(
        thread_id, metadata=metadata, if_exists="raise", ttl=None, scope=SERVER
    )


async def execute(pool: Pool, sql: str, params: Any = None) -> Any:
    async with pool.connection() as conn:
        return await conn.execute(sql.encode(), params)


def ids(page: Page) -> list[str]:
    return [thread["thread_id"] for thread in page.items]


def plain(record: Any) -> Any:
    return orjson.loads(orjson.dumps(record))


# --- threads ------------------------------------------------------------------------------------


async def test_a_new_thread_has_the_shape_of_the_api(records: PostgresRecords) -> None:
    thread = plain(await a_thread(records, "t", a=1))
    assert list(thread) == [
        *("thread_id", "created_at", "updated_at", "state_updated_at"),
        *("metadata", "status", "config", "values"),
    ]
    assert thread["created_at"] == thread["updated_at"] == thread["state_updated_at"]
    assert len(thread["created_at"]) == len("2026-11-22T06:40:20.934989+00:00")
    assert thread["created_at"].endswith("+00:00")
    assert (thread["metadata"], thread["status"], thread["values"]) == ({"a": 1}, "idle", None)
    assert plain(await records.get_thread("t", scope=SERVER)) == thread


async def test_a_thread_that_ran_has_error_and_interrupts(
    records: PostgresRecords, pool: Pool
) -> None:
    await a_thread(records, "t")
    values = '{"b": 1, "a": "x\\u0000y", "big": 123456789012345678901234567890}'
    await execute(pool, 'UPDATE greenroom.threads SET ever_ran = true, "values" = %s', [values])
    thread = await records.get_thread("t", scope=SERVER)
    assert thread is not None
    assert orjson.dumps(thread["values"]) == values.encode()
    assert plain(thread)["error"] is None
    assert plain(thread)["interrupts"] == {}


async def test_an_existing_thread_is_a_conflict_or_is_returned_untouched(
    records: PostgresRecords,
) -> None:
    first = await a_thread(records, "t", a=1)
    with pytest.raises(Conflict, match="Thread with ID t already exists"):
        await a_thread(records, "t", b=2)
    again = await records.create_thread(
        "t", metadata={"b": 2}, if_exists="do_nothing", ttl={"ttl": 5}, scope=SERVER
    )
    assert plain(again) == plain(first)


async def test_patch_merges_metadata_shallowly_and_keeps_null(records: PostgresRecords) -> None:
    before = await a_thread(records, "t", a=1, deep={"x": 1})
    patched = await records.patch_thread(
        "t", metadata={"a": None, "deep": {"y": 2}}, ttl=None, scope=SERVER
    )
    assert patched is not None
    assert patched["metadata"] == {"a": None, "deep": {"y": 2}}
    assert patched["updated_at"] > before["updated_at"]
    assert patched["state_updated_at"] == before["state_updated_at"]
    assert await records.patch_thread("nobody", metadata={}, ttl=None, scope=SERVER) is None


async def test_a_ttl_is_kept_in_minutes(records: PostgresRecords, pool: Pool) -> None:
    await records.create_thread("t", metadata={}, if_exists="raise", ttl={"ttl": 5}, scope=SERVER)
    await a_thread(records, "u")
    await records.patch_thread(
        "u", metadata=None, ttl={"ttl": 0.5, "strategy": "keep_latest"}, scope=SERVER
    )
    rows = await execute(
        pool,
        "SELECT thread_id, ttl_minutes AS m, ttl_strategy AS s,"
        " extract(epoch FROM expires_at - updated_at)::int AS left"
        " FROM greenroom.threads ORDER BY thread_id",
    )
    assert await rows.fetchall() == [
        {"thread_id": "t", "m": 5.0, "s": "delete", "left": 300},
        {"thread_id": "u", "m": 0.5, "s": "keep_latest", "left": 30},
    ]


@pytest.mark.parametrize("ttl", [{}, {"ttl": -1}, {"ttl": True}, {"ttl": 1, "strategy": "x"}])
async def test_a_ttl_without_meaning_is_refused(records: PostgresRecords, ttl: Any) -> None:
    with pytest.raises(InvalidRequest, match="ttl"):
        await records.create_thread("t", metadata={}, if_exists="raise", ttl=ttl, scope=SERVER)


async def test_nul_in_metadata_is_refused_with_a_sentence(records: PostgresRecords) -> None:
    await a_thread(records, "t")
    with pytest.raises(InvalidRequest, match="NUL character"):
        await a_thread(records, "u", name="a\0b")
    with pytest.raises(InvalidRequest, match="NUL character"):
        await records.patch_thread("t", metadata={"a\0": 1}, ttl=None, scope=SERVER)
    with pytest.raises(InvalidRequest, match="NUL character"):
        await records.search_threads(ThreadFilter(metadata={"a": "\0"}), **NEWEST, scope=SERVER)
    with pytest.raises(InvalidRequest, match="cannot be stored"):
        await a_thread(records, "u", name="\ud800")
    assert await records.get_thread("u", scope=SERVER) is None


async def test_search_by_metadata_is_containment(records: PostgresRecords) -> None:
    await a_thread(records, "1", owner="ann", tags={"a": 1, "b": 2})
    await a_thread(records, "2", owner="bob", tags={"a": 1})
    await a_thread(records, "3", owner="ann")

    async def found(**metadata: Any) -> list[str]:
        return ids(
            await records.search_threads(ThreadFilter(metadata=metadata), **NEWEST, scope=SERVER)
        )

    assert await found() == ["3", "2", "1"]
    assert await found(owner="ann") == ["3", "1"]
    assert await found(tags={"a": 1}) == ["2", "1"]
    assert await found(owner="nobody") == []
    assert await records.count_threads(ThreadFilter(metadata={"owner": "ann"}), scope=SERVER) == 2


async def test_search_by_status_ids_and_page(records: PostgresRecords, pool: Pool) -> None:
    for n in range(5):
        await a_thread(records, str(n))
    await execute(pool, "UPDATE greenroom.threads SET status = 'busy' WHERE thread_id IN ('1','3')")
    busy = await records.search_threads(ThreadFilter(status="busy"), **NEWEST, scope=SERVER)
    assert ids(busy) == ["3", "1"]
    some = await records.search_threads(ThreadFilter(ids=["0", "4", "9"]), **NEWEST, scope=SERVER)
    assert ids(some) == ["4", "0"]
    one = str(uuid.uuid4())
    await a_thread(records, one, rare=True)
    for where in (
        ThreadFilter(uuids_only=True),
        ThreadFilter(uuids_only=True, metadata={"rare": True}),
    ):
        assert ids(await records.search_threads(where, **NEWEST, scope=SERVER)) == [one]
        assert await records.count_threads(where, scope=SERVER) == 1
    await execute(pool, "DELETE FROM greenroom.threads WHERE thread_id = %s", [one])
    page = await records.search_threads(ThreadFilter(), **{**NEWEST, "limit": 2}, scope=SERVER)
    assert (ids(page), page.has_more) == (["4", "3"], True)
    page = await records.search_threads(
        ThreadFilter(), **{**NEWEST, "limit": 2, "offset": 3}, scope=SERVER
    )
    assert (ids(page), page.has_more) == (["1", "0"], False)
    assert await records.count_threads(ThreadFilter(), scope=SERVER) == 5


@pytest.mark.parametrize("by", ["thread_id", "status", "created_at", "state_updated_at"])
@pytest.mark.parametrize("descending", [True, False])
async def test_every_order_runs_both_ways(
    records: PostgresRecords, by: str, descending: bool
) -> None:
    for n in range(3):
        await a_thread(records, str(n), x=1)
    for where in (ThreadFilter(), ThreadFilter(metadata={"x": 1})):
        page = await records.search_threads(
            where, limit=10, offset=0, sort_by=by, descending=descending, scope=SERVER
        )
        found = [thread[by] for thread in page.items]
        assert len(found) == 3
        assert found == sorted(found, reverse=descending)


async def test_an_unknown_order_is_refused(records: PostgresRecords) -> None:
    with pytest.raises(InvalidRequest, match="Cannot sort by 'values'"):
        await records.search_threads(
            ThreadFilter(), **{**NEWEST, "sort_by": "values"}, scope=SERVER
        )


async def test_search_by_values_passes_threads_without_values_and_with_nul(
    records: PostgresRecords, pool: Pool
) -> None:
    states = {
        "count": {"count": 4, "log": ["one", "two"]},
        "nul": {"count": 4, "text": "a\0b", "path": "c:\\u0000"},
        "list": [1, 2],
        "deep": {"messages": [{"type": "human", "content": "hi"}]},
    }
    await a_thread(records, "never ran")
    for name, state in states.items():
        await a_thread(records, name)
        await store_values(pool, name, json.dumps(state).encode())

    async def found(**values: Any) -> set[str]:
        where = ThreadFilter(values=values)
        page = await records.search_threads(where, **NEWEST, scope=SERVER)
        assert await records.count_threads(where, scope=SERVER) == len(page.items)
        return set(ids(page))

    assert await found(count=4) == {"count", "nul"}
    assert await found(count=4, log=["one"]) == {"count"}
    assert await found(count=5) == set()
    assert await found(text="a\0b") == {"nul"}
    assert await found(path="c:\\u0000") == {"nul"}
    assert await found(messages=[{"type": "human"}]) == {"deep"}
    for name in states:
        await store_values(pool, name, None)
    assert await found(count=4) == set()


async def test_rare_threads_are_found_behind_many_others(
    records: PostgresRecords, pool: Pool
) -> None:
    """The walk along the order ends before it meets the match; the index finds it."""
    await a_thread(records, "rare", kind="rare")
    await execute(
        pool,
        """INSERT INTO greenroom.threads (thread_id, metadata) SELECT 'x' || n, '{"kind": "common"}'
           FROM generate_series(1, %s) n""",
        [WALK + 500],
    )
    rare = await records.search_threads(
        ThreadFilter(metadata={"kind": "rare"}), **NEWEST, scope=SERVER
    )
    assert (ids(rare), rare.has_more) == (["rare"], False)
    common = ThreadFilter(metadata={"kind": "common"})
    page = await records.search_threads(common, **{**NEWEST, "offset": WALK + 495}, scope=SERVER)
    assert (len(page.items), page.has_more) == (5, False)


# --- assistants ---------------------------------------------------------------------------------


async def test_each_graph_has_one_system_assistant(records: PostgresRecords, pool: Pool) -> None:
    await register_assistants(pool, ["counter", "agent"])
    await register_assistants(pool, ["counter"])
    # The id that the reference server gives to a graph of this name.
    assert system_assistant_id("counter") == "09d6caf4-2ef3-5a8b-b1a7-114690ed5d45"
    found = plain(await records.get_assistant(system_assistant_id("counter"), scope=SERVER))
    assert list(found) == [
        *("assistant_id", "graph_id", "config", "context", "metadata"),
        *("name", "created_at", "updated_at", "version", "description"),
    ]
    assert (found["name"], found["version"], found["description"]) == ("counter", 1, None)
    assert found["metadata"] == {"created_by": "system"}
    assert await records.count_assistants(AssistantFilter(), scope=SERVER) == 2
    await execute(pool, "DELETE FROM greenroom.assistants")
    assert await records.get_assistant(system_assistant_id("counter"), scope=SERVER) is None
    await register_assistants(pool, ["counter"])
    assert await records.get_assistant(system_assistant_id("counter"), scope=SERVER) is not None


async def test_system_assistants_have_the_defaults_and_the_name_of_the_last_start(
    pool: Pool,
) -> None:
    async def shown() -> Any:
        found = await PostgresRecords(pool).get_assistant(
            system_assistant_id("agent"), scope=SERVER
        )
        return tuple(plain(found)[key] for key in ("name", "config", "context"))

    defaults = {"configurable": {"model": "small"}, "context": {"lang": "de"}, "tags": ["t"]}
    await register_assistants(pool, ["agent"], {"agent": defaults})
    await name_assistants(pool, {"agent": "My Fancy Graph", "unknown": "x"})
    config = {"configurable": {"model": "small"}, "tags": ["t"]}
    assert await shown() == ("My Fancy Graph", config, {"model": "small", "lang": "de"})
    await register_assistants(pool, ["agent"])
    assert await shown() == ("My Fancy Graph", {}, {})
    await name_assistants(pool, {"agent": "agent"})
    assert await shown() == ("agent", {}, {})
    await register_assistants(pool, ["agent"], descriptions={"agent": "what it is for"})
    assert await shown() == ("agent", {}, {})


async def test_assistants_are_searched(records: PostgresRecords, pool: Pool) -> None:
    await register_assistants(pool, ["counter", "agent_1", "agentx1"])

    async def found(**where: Any) -> list[str]:
        page = await records.search_assistants(
            AssistantFilter(**where),
            limit=10,
            offset=0,
            sort_by="name",
            descending=False,
            scope=SERVER,
        )
        assert await records.count_assistants(AssistantFilter(**where), scope=SERVER) == len(
            page.items
        )
        return [assistant["name"] for assistant in page.items]

    assert await found() == ["agent_1", "agentx1", "counter"]
    assert await found(graph_id="counter") == ["counter"]
    assert await found(metadata={"created_by": "system"}) == ["agent_1", "agentx1", "counter"]
    assert await found(metadata={"created_by": "me"}) == []
    assert await found(name="AGENT_") == ["agent_1"]
    assert await records.get_assistant("counter", scope=SERVER) is None


# --- runs ---------------------------------------------------------------------------------------


async def some_runs(pool: Pool, thread_id: str, *statuses: str) -> list[str]:
    runs = [str(uuid.uuid4()) for _ in statuses]
    for run_id, status in zip(runs, statuses, strict=True):
        await execute(
            pool,
            "INSERT INTO greenroom.runs (run_id, thread_id, assistant_id, graph_id, status, kwargs,"
            " metadata, multitask_strategy)"
            """ VALUES (%s, %s, %s, 'g', %s, '{"b": 1,  "a": 2}', '{"m": 1}', 'enqueue')""",
            [run_id, thread_id, uuid.uuid4(), status],
        )
    return runs


async def test_a_run_has_the_shape_of_the_api(records: PostgresRecords, pool: Pool) -> None:
    (run_id,) = await some_runs(pool, "t", "pending")
    run = await records.get_run("t", run_id, scope=SERVER)
    assert run is not None
    assert b'{"b": 1,  "a": 2}' in orjson.dumps(run)
    assert list(run) == [
        *("run_id", "thread_id", "assistant_id", "metadata", "status", "kwargs"),
        *("multitask_strategy", "created_at", "updated_at", "assistant_version"),
        "langsmith_session_name",
    ]
    assert (run["metadata"], run["status"], run["run_id"]) == ({"m": 1}, "pending", run_id)
    assert plain(await records.get_run(None, run_id, scope=SERVER)) == plain(run)
    assert await records.get_run("u", run_id, scope=SERVER) is None
    assert await records.get_run("t", str(uuid.uuid4()), scope=SERVER) is None
    assert await records.get_run("t", "nonsense", scope=SERVER) is None


async def test_runs_of_all_threads_are_found_newest_first(
    records: PostgresRecords, pool: Pool
) -> None:
    await a_thread(records, "t")
    await a_thread(records, "u")
    a, b = await some_runs(pool, "t", "success", "error")
    c, d = await some_runs(pool, "u", "success", "pending")
    metadata = json.dumps({"k": [1, {"x": 2}]})
    await execute(pool, "UPDATE greenroom.runs SET metadata = %s WHERE run_id = %s", [metadata, c])

    async def found(
        *, descending: bool = True, limit: int = 10, offset: int = 0, **where: Any
    ) -> list[str]:
        page = await records.search_runs(
            RunFilter(**where), limit=limit, offset=offset, descending=descending, scope=SERVER
        )
        if limit == 10:
            assert await records.count_runs(RunFilter(**where), scope=SERVER) == len(page.items)
        return [run["run_id"] for run in page.items]

    assert await found() == [d, c, b, a]
    assert await found(descending=False) == [a, b, c, d]
    assert await found(limit=2, offset=1) == [c, b]
    assert await found(status="success") == [c, a]
    assert await found(thread_id="t", status="error") == [b]
    assert await found(metadata={"k": [{"x": 2}]}) == [c]
    assert await found(metadata={"k": 1}) == []
    assert await found(assistant_id=str(uuid.uuid4())) == []
    await execute(
        pool,
        "INSERT INTO greenroom.operations (subject, thread_id, kind) VALUES ('u', 'u', 'delete')",
    )
    assert await found() == [b, a]


async def test_runs_are_listed_newest_first(records: PostgresRecords, pool: Pool) -> None:
    await a_thread(records, "t")
    a, b, c = await some_runs(pool, "t", "success", "error", "success")
    await some_runs(pool, "u", "success")

    async def listed(**where: Any) -> list[str]:
        runs = await records.list_runs(
            "t", **({"limit": None, "offset": 0, "status": None} | where), scope=SERVER
        )
        assert runs is not None
        return [run["run_id"] for run in runs]

    assert await listed() == [c, b, a]
    assert await listed(limit=1, offset=1) == [b]
    assert await listed(status="success") == [c, a]
    assert await listed(status="bogus") == []
    assert await listed(limit=0) == []
    assert await records.list_runs("nobody", limit=10, offset=0, status=None, scope=SERVER) is None


async def test_ready_says_so(records: PostgresRecords) -> None:
    await records.ready()


async def test_slow_searches_are_ended_and_leave_connections_to_others(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await open_pool(
        dsn, application_name="greenroom:gateway", max_size=2, statement_timeout_s=1.0
    )
    try:
        records = PostgresRecords(pool)
        await a_thread(records, "t")
        monkeypatch.setattr(
            "greenroom.persistence.records.threads._COLUMNS", "thread_id, pg_sleep(60) AS slept"
        )
        searches = [
            asyncio.create_task(
                records.search_threads(
                    ThreadFilter(),
                    limit=1,
                    offset=0,
                    sort_by="thread_id",
                    descending=True,
                    scope=SERVER,
                )
            )
            for _ in range(2)
        ]
        await asyncio.sleep(0.1)
        assert (
            await asyncio.wait_for(records.get_assistant(str(uuid.uuid4()), scope=SERVER), 0.8)
            is None
        )
        for search in searches:
            with pytest.raises(DatabaseUnavailable, match="ask for less"):
                await asyncio.wait_for(search, 20)
    finally:
        await pool.close()
