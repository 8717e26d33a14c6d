"""Scopes in SQL: they admit what they say, and each question of records has one."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from greenroom.core.assistants import AssistantPatch, NewAssistant
from greenroom.core.crons import Cron
from greenroom.core.errors import BadRequest, Conflict
from greenroom.core.identity import system_assistant_id
from greenroom.core.scopes import SERVER, Scope
from greenroom.core.searches import (
    AssistantFilter,
    CronFilter,
    RunFilter,
    ThreadFilter,
)
from greenroom.persistence import assistant_deletions, journal, scoped
from greenroom.persistence.crons import due_crons
from greenroom.persistence.database import Pool, rows_of
from greenroom.persistence.records import PostgresRecords, register_assistants
from greenroom.persistence.scoping import condition, document, named_condition
from greenroom.persistence.thread_runs import StoredRuns
from tests.persistence.test_crons import NOON, a_cron, committed
from tests.persistence.test_outbox import a_request, a_run, commit
from tests.scopes import admits

PAGE: Any = {"limit": 10, "offset": 0, "descending": True}
ADA, BOB = Scope.of_filter({"owner": "ada"}), Scope.of_filter({"owner": "bob"})

_PLAIN = st.sampled_from(["a", "b", "", 0, 1, 1.0, 1.5, True, False, None, "\u00e9", "%s", "'"])
_VALUE = st.one_of(
    _PLAIN, st.lists(_PLAIN, max_size=3), st.dictionaries(st.sampled_from("kl"), _PLAIN)
)
_KEY = st.sampled_from(["owner", "tags", "a'b", "%s"])
_FIELD = st.one_of(
    _PLAIN,
    st.lists(_PLAIN, max_size=3),
    st.builds(lambda value: {"$eq": value}, _VALUE),
    st.builds(lambda value: {"$contains": value}, st.lists(_PLAIN, min_size=1, max_size=2)),
)
_FILTER = st.recursive(
    st.dictionaries(_KEY, _FIELD, max_size=2),
    lambda inner: st.builds(
        lambda name, parts: {name: parts},
        st.sampled_from(["$or", "$and"]),
        st.lists(inner, min_size=1, max_size=2),
    ),
    max_leaves=4,
)
_METADATA = st.dictionaries(_KEY, _VALUE, max_size=4)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(wanted=_FILTER, metadata=_METADATA)
async def test_sql_admits_what_the_scope_says(pool: Pool, wanted: Any, metadata: Any) -> None:
    scope = Scope.of_filter(wanted)
    sql, values = condition(scope, "m.metadata")
    named, by_name = named_condition(scope, "m.metadata")
    given_to = "AS found FROM (SELECT %s::jsonb AS metadata) m"
    async with pool.connection() as connection:
        cursor = await connection.execute(
            f"SELECT {sql} {given_to}".encode(), [*values, Jsonb(metadata)]
        )
        row = await cursor.fetchone()
    again = await rows_of(
        pool,
        f"SELECT {named} {given_to.replace('%s', '%(metadata)s')}",
        {**by_name, "metadata": Jsonb(metadata)},
    )
    assert row is not None
    assert bool(row["found"]) == bool(again[0]["found"]) == admits(scope, metadata)


def test_a_scope_as_one_object() -> None:
    assert document(SERVER) == {}
    assert document(ADA) == {"owner": "ada"}
    both = Scope.of_filter({"owner": "ada", "tags": {"$contains": ["x"]}})
    assert document(both) == {"owner": "ada", "tags": ["x"]}
    for other in ({"$or": [{"a": 1}, {"b": 1}]}, {"a": ["x"]}, {"a": {"$eq": 1, "$contains": 1}}):
        assert document(Scope.of_filter(other)) is None


@pytest.fixture
async def records(pool: Pool) -> PostgresRecords:
    await register_assistants(pool, ["g"])
    records = PostgresRecords(pool)
    for owner in ("ada", "bob"):
        await records.create_thread(
            f"of-{owner}", metadata={"owner": owner}, if_exists="raise", ttl=None, scope=SERVER
        )
    return records


async def test_threads(records: PostgresRecords) -> None:
    for scope, own, other in ((ADA, "of-ada", "of-bob"), (BOB, "of-bob", "of-ada")):
        assert await records.get_thread(own, scope=scope)
        assert await records.get_thread(other, scope=scope) is None
        assert await records.thread_storage(own, scope=scope)
        assert await records.thread_storage(other, scope=scope) is None
        found = await records.search_threads(
            ThreadFilter(), **PAGE, sort_by="updated_at", scope=scope
        )
        assert [each["thread_id"] for each in found.items] == [own]
        both = ThreadFilter(ids=[own, other])
        assert await records.count_threads(both, scope=scope) == 1
        patch: Any = {"metadata": {"x": 1}, "ttl": None}
        assert await records.patch_thread(own, **patch, scope=scope)
        assert await records.patch_thread(other, **patch, scope=scope) is None
        same: Any = {"metadata": {}, "if_exists": "do_nothing", "ttl": None}
        assert (await records.create_thread(own, **same, scope=scope))["thread_id"] == own
        with pytest.raises(Conflict):
            await records.create_thread(other, **same, scope=scope)


async def test_runs(records: PostgresRecords, pool: Pool) -> None:
    ours = {name: await a_run(pool, f"of-{name}", create_thread=False) for name in ("ada", "bob")}
    for scope, own, other in ((ADA, "ada", "bob"), (BOB, "bob", "ada")):
        assert await records.get_run(None, ours[own], scope=scope)
        assert await records.get_run(None, ours[other], scope=scope) is None
        assert await records.get_run(f"of-{other}", ours[other], scope=scope) is None
        listed: Any = {"limit": 10, "offset": 0, "status": None}
        assert len(await records.list_runs(f"of-{own}", **listed, scope=scope) or []) == 1
        assert await records.list_runs(f"of-{other}", **listed, scope=scope) is None
        found = await records.search_runs(RunFilter(), **PAGE, scope=scope)
        assert [each["run_id"] for each in found.items] == [ours[own]]
        assert await records.count_runs(RunFilter(), scope=scope) == 1
        assert await scoped.is_run(pool, f"of-{own}", ours[own], scope)
        assert not await scoped.is_run(pool, f"of-{other}", ours[other], scope)
        in_flight = await scoped.runs_in_flight(pool, "all", scope)
        assert in_flight == [(f"of-{own}", ours[own])]
        runs = StoredRuns(pool, f"of-{other}", scope=scope)
        assert await runs.newest() is None
        assert await runs.find(ours[other]) is None
        assert await runs.begun_from(0) == []
        assert await StoredRuns(pool, f"of-{own}", scope=scope).newest()


@pytest.mark.parametrize("create_thread", [False, True])
async def test_a_run_is_not_admitted_to_a_thread_outside_its_scope(
    records: PostgresRecords, pool: Pool, create_thread: bool
) -> None:
    before = await records.get_thread("of-ada", scope=SERVER)
    wanted = a_request("of-ada", create_thread=create_thread, scope=BOB, user='{"identity":"bob"}')
    assert await commit(pool, journal.admit(wanted, actor=None)) == [[]]
    assert await records.get_thread("of-ada", scope=SERVER) == before
    assert await records.get_run(None, wanted.run_id, scope=SERVER) is None
    own = a_request("of-bob", create_thread=create_thread, scope=BOB, user='{"identity":"bob"}')
    ((row,),) = await commit(pool, journal.admit(own, actor=None))
    assert row["created_at"]


async def test_the_user_of_a_run_is_found_by_the_next_registry(
    records: PostgresRecords, pool: Pool
) -> None:
    user = '{"identity":"ada","token":"secret"}'
    run_id = await a_run(pool, "of-ada", create_thread=False, user=user)
    async with pool.connection() as connection:
        found = await journal.in_flight(connection)
    assert [json.loads(each.user or "") for each in found] == [json.loads(user)]
    shown = await records.get_run(None, run_id, scope=SERVER)
    assert "secret" not in str(shown)


async def test_assistants(records: PostgresRecords, pool: Pool) -> None:
    ours: dict[str, str] = {}
    for name in ("ada", "bob"):
        new = NewAssistant(
            assistant_id=str(uuid.uuid4()),
            graph_id="g",
            name=name,
            description=None,
            config={},
            context={},
            metadata={"owner": name},
        )
        ours[name] = new.assistant_id
        await records.create_assistant(new, if_exists="raise", scope=SERVER)
        other = BOB if name == "ada" else ADA
        with pytest.raises(Conflict):
            await records.create_assistant(new, if_exists="do_nothing", scope=other)
    for scope, own, other in ((ADA, ours["ada"], ours["bob"]), (BOB, ours["bob"], ours["ada"])):
        patch, listed = AssistantPatch(name="x"), {"metadata": None, "limit": 9, "offset": 0}
        for fresh in (False, True, False):
            assert await records.assistant_of_run(own, scope=scope, fresh=fresh)
            assert await records.assistant_of_run(other, scope=scope, fresh=fresh) is None
        assert await records.get_assistant(own, scope=scope)
        assert await records.get_assistant(other, scope=scope) is None
        assert await records.patch_assistant(own, patch, scope=scope)
        assert await records.patch_assistant(other, patch, scope=scope) is None
        assert await records.assistant_versions(own, **listed, scope=scope)
        assert await records.assistant_versions(other, **listed, scope=scope) is None
        assert await records.show_version(own, 1, scope=scope)
        assert await records.show_version(other, 1, scope=scope) is None
        found = await records.search_assistants(
            AssistantFilter(), **PAGE, sort_by="created_at", scope=scope
        )
        assert [each["assistant_id"] for each in found.items] == [own]
        assert await records.count_assistants(AssistantFilter(), scope=scope) == 1
        name = str(uuid.uuid4())
        assert not await assistant_deletions.begin(pool, name, other, threads=None, scope=scope)
    either = Scope.of_filter({"$or": [{"owner": "ada"}, {"x": 1}]})
    with pytest.raises(BadRequest, match="one by one"):
        await assistant_deletions.begin(
            pool, str(uuid.uuid4()), ours["ada"], threads=either, scope=ADA
        )
    assert await records.get_assistant(ours["ada"], scope=SERVER)


async def test_only_threads_of_the_scope_go_with_an_assistant(
    records: PostgresRecords, pool: Pool
) -> None:
    its_id = str(uuid.uuid4())
    new = NewAssistant(
        assistant_id=its_id,
        graph_id="g",
        name="shared",
        description=None,
        config={},
        context={},
        metadata={"owner": "ada"},
    )
    await records.create_assistant(new, if_exists="raise", scope=SERVER)
    for name in ("ada", "bob"):
        await a_run(pool, f"of-{name}", create_thread=False, assistant_id=its_id)
    name = str(uuid.uuid4())
    assert await assistant_deletions.begin(pool, name, its_id, threads=ADA, scope=ADA)
    (deletion,) = await assistant_deletions.unfinished(pool, name)
    assert await assistant_deletions.threads_of(pool, deletion, limit=9) == ["of-ada"]


async def test_crons_and_who_their_runs_are_of(records: PostgresRecords, pool: Pool) -> None:
    ours: dict[str, str] = {}
    for name, scope in (("ada", ADA), ("bob", BOB)):
        cron: Cron = a_cron(
            metadata=json.dumps({"owner": name}).encode(),
            user=json.dumps({"identity": name, "token": "secret"}),
            user_id=name,
            scope=scope,
        )
        await committed(pool, journal.store_cron(cron))
        ours[name] = cron.cron_id
    for scope, own, other in ((ADA, "ada", "bob"), (BOB, "bob", "ada")):
        found = await records.get_cron(ours[own], scope=scope)
        assert found is not None
        assert found[0]["user_id"] == own
        assert "secret" not in str(found)
        assert await records.get_cron(ours[other], scope=scope) is None
        page = await records.search_crons(CronFilter(), **PAGE, sort_by="created_at", scope=scope)
        assert [each["cron_id"] for each in page.items] == [ours[own]]
        assert await records.count_crons(CronFilter(), scope=scope) == 1
    due = {each.cron_id: each for each in await due_crons(pool, NOON, but=(), limit=9)}
    assert Scope.from_json(due[ours["ada"]].scope or "") == ADA
    assert json.loads(due[ours["bob"]].user or "")["identity"] == "bob"
    assert system_assistant_id("g") in {each.assistant["assistant_id"] for each in due.values()}
