"""Assistants in the database: versions, deletions, and the check of every admission."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import orjson
import psycopg
import pytest

from greenroom.core.assistants import AssistantPatch, NewAssistant
from greenroom.core.errors import Conflict, InvalidRequest, NotFound
from greenroom.core.identity import system_assistant_id
from greenroom.core.runs import RunRequest
from greenroom.core.scopes import SERVER
from greenroom.core.searches import (
    AssistantFilter,
)
from greenroom.core.sharding import Shard
from greenroom.persistence import assistant_deletions, journal
from greenroom.persistence.database import Pool
from greenroom.persistence.records import (
    PostgresRecords,
    name_assistants,
    register_assistants,
)
from greenroom.wire.configs import patch_of
from tests.run_records import request_of

UNKNOWN = str(uuid.uuid4())


@pytest.fixture
def records(pool: Pool) -> PostgresRecords:
    return PostgresRecords(pool)


def plain(record: Any) -> Any:
    return orjson.loads(orjson.dumps(record))


def new(**changes: Any) -> NewAssistant:
    given: dict[str, Any] = {
        "assistant_id": str(uuid.uuid4()),
        "graph_id": "g",
        "name": "first",
        "description": "d",
        "config": {"tags": ["t"], "configurable": {"model": "m1"}},
        "context": {"model": "m1"},
        "metadata": {"a": 1, "deep": {"x": 1}},
    }
    return NewAssistant(**(given | changes))


async def made(records: PostgresRecords, **changes: Any) -> str:
    return (await records.create_assistant(new(**changes), if_exists="raise", scope=SERVER))[
        "assistant_id"
    ]


async def patched(records: PostgresRecords, assistant_id: str, **changes: Any) -> Any:
    return await records.patch_assistant(assistant_id, AssistantPatch(**changes), scope=SERVER)


async def row(pool: Pool, sql: str, *params: Any) -> Any:
    async with pool.connection() as conn:
        return await (await conn.execute(sql.encode(), params)).fetchone()


async def numbers(records: PostgresRecords, assistant_id: str, **where: Any) -> list[int]:
    given: Any = {"metadata": None, "limit": 10, "offset": 0} | where
    return [
        v["version"]
        for v in await records.assistant_versions(assistant_id, **given, scope=SERVER) or []
    ]


# --- versions ------------------------------------------------------------------------------------


async def test_a_new_assistant_is_there_once(records: PostgresRecords) -> None:
    wanted = new()
    created = plain(await records.create_assistant(wanted, if_exists="raise", scope=SERVER))
    assert list(created) == [
        *("assistant_id", "graph_id", "config", "context", "metadata"),
        *("name", "created_at", "updated_at", "version", "description"),
    ]
    assert created["version"] == 1
    assert plain(await records.get_assistant(wanted.assistant_id, scope=SERVER)) == created
    other = new(assistant_id=wanted.assistant_id, name="other")
    assert (
        plain(await records.create_assistant(other, if_exists="do_nothing", scope=SERVER))
        == created
    )
    with pytest.raises(Conflict, match=f"Assistant {wanted.assistant_id} already exists"):
        await records.create_assistant(other, if_exists="raise", scope=SERVER)
    with pytest.raises(InvalidRequest, match="NUL"):
        await records.create_assistant(new(metadata={"a": "\0"}), if_exists="raise", scope=SERVER)


async def test_every_patch_is_a_version_that_never_changes(records: PostgresRecords) -> None:
    assistant_id = await made(records)
    await patched(records, assistant_id, metadata={"b": None, "deep": {"y": 2}})
    await patched(records, assistant_id, name="third", description="D", graph_id="h")
    shown = await patched(records, assistant_id)
    assert (shown["version"], shown["name"], shown["graph_id"]) == (4, "third", "h")
    assert shown["metadata"] == {"a": 1, "b": None, "deep": {"y": 2}}
    assert shown["created_at"] < shown["updated_at"]
    assert await numbers(records, assistant_id) == [4, 3, 2, 1]
    assert await numbers(records, assistant_id, limit=2, offset=1) == [3, 2]
    assert await numbers(records, assistant_id, metadata={"deep": {"x": 1}}) == [1]
    assert await numbers(records, assistant_id, offset=9) == []
    versions = await records.assistant_versions(
        assistant_id, metadata=None, limit=9, offset=0, scope=SERVER
    )
    assert versions is not None
    assert list(versions[0]) == [
        *("assistant_id", "version", "graph_id", "config", "context", "metadata"),
        *("created_at", "name", "description"),
    ]
    assert (versions[-1]["name"], versions[-1]["metadata"]) == ("first", {"a": 1, "deep": {"x": 1}})


async def test_what_is_not_there_is_none(records: PostgresRecords) -> None:
    assert await patched(records, UNKNOWN, name="x") is None
    assert await records.show_version(UNKNOWN, 1, scope=SERVER) is None
    assert (
        await records.assistant_versions(UNKNOWN, metadata=None, limit=1, offset=0, scope=SERVER)
        is None
    )


async def test_a_version_is_restored_whole(records: PostgresRecords) -> None:
    assistant_id = await made(records)
    first = await records.get_assistant(assistant_id, scope=SERVER)
    values = {"model": "m2"}
    await patched(
        records,
        assistant_id,
        **{"graph_id": "h", "name": "n", "description": "D", "metadata": {"b": 2}},
        **{"rest": {}, "values": values},
    )
    shown = await records.show_version(assistant_id, 1, scope=SERVER)
    assert shown is not None
    assert first is not None
    assert {**shown, "updated_at": 0} == {**first, "updated_at": 0}
    assert await numbers(records, assistant_id) == [2, 1]
    later = await patched(records, assistant_id, name="after")
    assert (later["version"], later["context"], later["graph_id"]) == (3, {"model": "m1"}, "g")
    assert await numbers(records, assistant_id) == [3, 2, 1]
    for version in (9, None):
        with pytest.raises(NotFound, match=f"Version {version} not found for assistant"):
            await records.show_version(assistant_id, version, scope=SERVER)


async def test_patches_at_the_same_time_are_versions_one_after_the_other(
    records: PostgresRecords,
) -> None:
    assistant_id = await made(records)
    await asyncio.gather(*(patched(records, assistant_id, metadata={str(n): n}) for n in range(20)))
    found = await records.get_assistant(assistant_id, scope=SERVER)
    assert found is not None
    assert (found["version"], len(found["metadata"])) == (21, 22)
    assert await numbers(records, assistant_id, limit=100) == [*range(21, 0, -1)]


@pytest.mark.parametrize(
    ("config", "context", "shown", "values"),
    [
        ({"configurable": {"b": 2}}, None, {}, {"b": 2}),
        ({"tags": ["u"], "configurable": {"b": 2}}, None, {"tags": ["u"]}, {"b": 2}),
        ({"recursion_limit": 7}, None, {"recursion_limit": 7}, {"model": "m1"}),
        ({"configurable": {}}, None, {}, {}),
        ({}, None, {"tags": ["t"]}, {"model": "m1"}),
        (None, {"c": 3}, {}, {"c": 3}),
        (None, {}, {"tags": ["t"]}, {}),
        ({"recursion_limit": 7}, {"c": 3}, {"recursion_limit": 7}, {"c": 3}),
        ({"recursion_limit": 7}, {}, {"recursion_limit": 7}, {}),
        ({"configurable": {}}, {"c": 3}, {}, {"c": 3}),
        ({"configurable": {"b": 2}}, {}, {}, {"b": 2}),
        (None, {"thread_id": "x", "__y": 1, "langgraph_z": 1, "c": None}, {}, {"c": None}),
    ],
    ids=str,
)
async def test_config_and_context_never_differ(
    records: PostgresRecords, config: Any, context: Any, shown: Any, values: Any
) -> None:
    assistant_id = await made(records)
    found = await records.patch_assistant(assistant_id, patch_of(config, context), scope=SERVER)
    assert found is not None
    assert found["context"] == values
    assert found["config"] == {**shown, **({"configurable": values} if values else {})}


async def test_a_statement_that_is_repeated_changes_nothing_more(
    records: PostgresRecords, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is lost after the commit, so `retrying` sends the statement once more."""
    fetched = PostgresRecords.rows

    async def twice(self: Any, sql: str, params: Any) -> Any:
        if "INSERT" in sql or "newest + 1" in sql:
            await fetched(self, sql, params)
        return await fetched(self, sql, params)

    monkeypatch.setattr(PostgresRecords, "rows", twice)
    assistant_id = await made(records)
    assert (await patched(records, assistant_id, name="n"))["version"] == 2
    assert await numbers(records, assistant_id) == [2, 1]


async def test_names_are_sorted_without_regard_to_case(records: PostgresRecords) -> None:
    for name in ("b", "A", "C", "a%_", "B!"):
        await made(records, name=name)

    async def sorted_by(descending: bool) -> list[str]:
        page = await records.search_assistants(
            AssistantFilter(),
            limit=9,
            offset=0,
            sort_by="name",
            descending=descending,
            scope=SERVER,
        )
        return [found["name"] for found in page.items]

    assert await sorted_by(False) == ["A", "a%_", "b", "B!", "C"]
    assert await sorted_by(True) == ["C", "B!", "b", "a%_", "A"]
    assert await records.count_assistants(AssistantFilter(name="%_"), scope=SERVER) == 1


# --- system assistants ---------------------------------------------------------------------------


async def test_a_start_brings_a_changed_system_assistant_in_line(
    records: PostgresRecords, pool: Pool
) -> None:
    its_id = system_assistant_id("agent")

    async def start(**defaults: Any) -> Any:
        given = {"agent": {"configurable": defaults} if defaults else {}}
        await register_assistants(pool, ["agent"], given, {"agent": "configured"})
        await name_assistants(pool, {"agent": "Author's"})
        return await records.get_assistant(its_id, scope=SERVER)

    await start(model="small")
    shown = await start(model="small")
    assert (shown["version"], shown["description"]) == (1, "configured")
    await patched(
        records, its_id, name="mine", description="my", metadata={"m": 1}, graph_id="other"
    )
    await patched(records, its_id, values={"model": "mine"})
    # An inspector that starts in between takes no client's name away.
    await name_assistants(pool, {"agent": "Author's"})
    found = await records.get_assistant(its_id, scope=SERVER)
    assert found is not None
    assert found["name"] == "mine"
    shown = await start(model="small")
    assert (shown["version"], shown["name"], shown["graph_id"]) == (4, "Author's", "agent")
    assert shown["description"] == "configured"
    assert shown["metadata"] == {"created_by": "system", "m": 1}
    assert shown["context"] == {"model": "mine"}
    assert (await start(model="small"))["version"] == 4
    # The operator has decided otherwise since.
    shown = await start(model="large")
    assert (shown["version"], shown["context"]) == (5, {"model": "large"})
    await records.show_version(its_id, 3, scope=SERVER)
    shown = await start(model="large")
    assert (shown["version"], shown["name"]) == (6, "Author's")
    assert await numbers(records, its_id) == [6, 5, 4, 3, 2, 1]


async def test_an_older_server_may_still_register(records: PostgresRecords, pool: Pool) -> None:
    """Its statements know neither versions nor what was configured."""
    its_id = system_assistant_id("agent")
    await row(
        pool,
        "INSERT INTO greenroom.assistants (assistant_id, graph_id, name, metadata, config, context)"
        """ VALUES (%s, 'agent', 'agent', '{"created_by": "system"}', '{}', '{}') RETURNING 1""",
        its_id,
    )
    known = await records.assistant_of_run(its_id, scope=SERVER)
    await row(
        pool,
        "UPDATE greenroom.assistants SET name = 'Author''s' WHERE assistant_id = %s RETURNING 1",
        its_id,
    )
    fresh = await records.assistant_of_run(its_id, fresh=True, scope=SERVER)
    assert known is not None
    assert fresh is not None
    assert fresh["revision"] > known["revision"]
    versions = await records.assistant_versions(
        its_id, metadata=None, limit=9, offset=0, scope=SERVER
    )
    assert [(v["version"], v["name"]) for v in versions or []] == [(1, "Author's")]
    await register_assistants(pool, ["agent"])
    await name_assistants(pool, {"agent": "Author's"})
    assert (await records.get_assistant(its_id, scope=SERVER) or {})["version"] == 1


# --- runs ----------------------------------------------------------------------------------------


def request(assistant_id: str, known: Any, **changes: Any) -> RunRequest:
    given: dict[str, Any] = {
        "run_id": str(uuid.uuid4()),
        "thread_id": "t",
        "assistant_id": assistant_id,
        "assistant_version": known["version"],
        "assistant_revision": known["revision"],
        "graph_id": "g",
        "kwargs": b"{}",
        "metadata": b"{}",
        "multitask_strategy": "enqueue",
        "create_thread": True,
    }
    return request_of(**(given | changes))


async def admitted(pool: Pool, asked: RunRequest) -> Any:
    write = journal.admit(asked, actor=None)
    async with pool.connection() as conn:
        found = await (await conn.execute(write.sql.encode(), write.params)).fetchone()
    return None if found is None else found["created_at"]


async def known_of(records: PostgresRecords, assistant_id: str, *, fresh: bool = False) -> Any:
    return await records.assistant_of_run(assistant_id, fresh=fresh, scope=SERVER)


@pytest.mark.parametrize("create_thread", [True, False])
async def test_no_run_is_admitted_with_what_an_assistant_was(
    records: PostgresRecords, pool: Pool, create_thread: bool
) -> None:
    await records.create_thread("t", metadata={}, if_exists="raise", ttl=None, scope=SERVER)
    gateway, other = records, PostgresRecords(pool)
    assistant_id = await made(other)
    known = await known_of(gateway, assistant_id)
    first = request(assistant_id, known, create_thread=create_thread)
    assert await admitted(pool, first) is not None
    await patched(other, assistant_id, name="n")
    # This gateway does not know of it, but the admission does.
    assert await known_of(gateway, assistant_id) == known
    late = request(assistant_id, known, create_thread=create_thread, thread_id="late")
    assert await admitted(pool, late) is None
    assert await gateway.get_thread("late", scope=SERVER) is None
    assert await gateway.get_run(None, late.run_id, scope=SERVER) is None
    # A create that is repeated is the same run, whatever has changed.
    assert await admitted(pool, first) is not None
    known = await known_of(gateway, assistant_id, fresh=True)
    assert known["version"] == 2
    again = request(assistant_id, known, create_thread=create_thread)
    assert await admitted(pool, again) is not None
    run = await gateway.get_run("t", again.run_id, scope=SERVER)
    assert run is not None
    assert run["assistant_version"] == 2
    await other.show_version(assistant_id, 1, scope=SERVER)
    assert await admitted(pool, request(assistant_id, known)) is None


async def test_an_assistant_that_was_made_again_is_another(
    records: PostgresRecords, pool: Pool
) -> None:
    assistant_id = await made(records)
    known = await known_of(records, assistant_id)
    assert await assistant_deletions.begin(pool, UNKNOWN, assistant_id, threads=None, scope=SERVER)
    await made(records, assistant_id=assistant_id)
    assert await admitted(pool, request(assistant_id, known)) is None
    known = await known_of(records, assistant_id, fresh=True)
    assert known["version"] == 1
    assert await admitted(pool, request(assistant_id, known)) is not None
    (deletion,) = await assistant_deletions.unfinished(pool)
    assert not deletion.covers(known["revision"])
    async with pool.connection() as conn:
        assert [found.cancel for found in await journal.in_flight(conn)] == [None]


# --- deletions -----------------------------------------------------------------------------------


async def test_a_deletion_is_one_transaction_and_may_be_repeated(
    records: PostgresRecords, pool: Pool
) -> None:
    assistant_id, name = await made(records), str(uuid.uuid4())
    await patched(records, assistant_id, name="n")
    begin = assistant_deletions.begin
    assert await begin(pool, name, assistant_id, threads=SERVER, scope=SERVER)
    assert await records.get_assistant(assistant_id, scope=SERVER) is None
    assert await numbers(records, assistant_id) == []
    assert await begin(pool, name, assistant_id, threads=SERVER, scope=SERVER)
    assert not await begin(pool, str(uuid.uuid4()), assistant_id, threads=SERVER, scope=SERVER)
    assert [each.name for each in await assistant_deletions.unfinished(pool)] == [name]
    assert await assistant_deletions.unfinished(pool, UNKNOWN) == []


async def test_what_refers_to_an_assistant_may_go_with_it(
    records: PostgresRecords, pool: Pool
) -> None:
    """As the table of crons does, with a foreign key."""
    assistant_id = await made(records)
    async with pool.connection() as conn:
        await conn.execute(
            "CREATE TABLE greenroom.theirs (assistant_id uuid REFERENCES greenroom.assistants"
            " ON DELETE CASCADE)"
        )
        try:
            await conn.execute("INSERT INTO greenroom.theirs VALUES (%s)", (assistant_id,))
            await assistant_deletions.begin(pool, UNKNOWN, assistant_id, threads=None, scope=SERVER)
            cursor = await conn.execute("SELECT count(*) AS n FROM greenroom.theirs")
            assert await cursor.fetchone() == {"n": 0}
            with pytest.raises(psycopg.errors.ForeignKeyViolation):
                await conn.execute("INSERT INTO greenroom.theirs VALUES (%s)", (assistant_id,))
        finally:
            await conn.execute("DROP TABLE greenroom.theirs")


async def test_a_registry_that_starts_takes_the_runs_for_cancelled(
    records: PostgresRecords, pool: Pool
) -> None:
    assistant_id, other = await made(records), await made(records)
    for its_id in (assistant_id, other):
        await admitted(pool, request(its_id, await known_of(records, its_id), thread_id=its_id))
    await assistant_deletions.begin(pool, UNKNOWN, assistant_id, threads=None, scope=SERVER)
    async with pool.connection() as conn:
        found = {each.assistant_id: each for each in await journal.in_flight(conn)}
    assert (found[assistant_id].cancel, found[other].cancel) == ("interrupt", None)
    assert (found[other].assistant_version, found[other].assistant_revision) == (
        1,
        (await known_of(records, other))["revision"],
    )


async def test_the_threads_whose_latest_run_used_it_go(
    records: PostgresRecords, pool: Pool
) -> None:
    assistant_id, other = await made(records), await made(records)
    for thread_id, ids in {"a": [assistant_id], "b": [assistant_id, other], "c": [other]}.items():
        for its_id in ids:
            known = await known_of(records, its_id)
            await admitted(pool, request(its_id, known, thread_id=thread_id))
    await assistant_deletions.begin(pool, UNKNOWN, assistant_id, threads=SERVER, scope=SERVER)
    (deletion,) = await assistant_deletions.unfinished(pool)
    assert await assistant_deletions.threads_of(pool, deletion, limit=9) == ["a"]
    shards = [Shard(number, 2) for number in range(2)]
    by_shard = [
        await assistant_deletions.threads_of(pool, deletion, limit=9, shard=shard)
        for shard in shards
    ]
    assert sorted(by_shard) == [[], ["a"]]
    # The mark stays while something is left, and for a while after.
    finished = assistant_deletions.delete_finished
    assert await finished(pool, older_than_s=0) == 0
    await row(pool, "UPDATE greenroom.runs SET status = 'success' WHERE true RETURNING 1")
    assert await finished(pool, older_than_s=0) == 0
    await made(records, assistant_id=assistant_id)
    known = await known_of(records, assistant_id, fresh=True)
    await admitted(pool, request(assistant_id, known, thread_id="a"))
    assert await assistant_deletions.threads_of(pool, deletion, limit=9) == []
    assert await finished(pool) == 0
    assert await finished(pool, older_than_s=0) == 1
