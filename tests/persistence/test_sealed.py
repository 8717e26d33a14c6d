"""Sealed state in the database: read by who has the key, also beside what was stored before."""

from __future__ import annotations

import operator
import uuid
from typing import Annotated, Any

import orjson
import pytest
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from greenroom.core.errors import InvalidRequest
from greenroom.core.events import Event
from greenroom.core.scopes import SERVER
from greenroom.core.searches import ThreadFilter
from greenroom.persistence import journal, tails
from greenroom.persistence.checkpoints import PooledSaver
from greenroom.persistence.database import Pool
from greenroom.persistence.records import PostgresRecords
from greenroom.persistence.serializing import StateSerializer
from greenroom.persistence.store import Store
from greenroom.persistence.values import store_values
from greenroom.sealing import CannotOpen, Sealing
from greenroom.sealing.aes import AesGcm
from tests.persistence.test_run_metadata import asked, commit

SEALING = Sealing(AesGcm({"k": b"k" * 32}))
SECRET = "the word"


class State(TypedDict, total=False):
    name: str
    size: int
    log: Annotated[list[str], operator.add]


async def note(state: State) -> State:
    return {"log": [f"saw {state.get('name')}"]}


def graph_with(pool: Pool, sealing: Sealing) -> Any:
    saver = PooledSaver(pool, serde=StateSerializer(sealing=sealing))
    return StateGraph(State).add_node(note).add_edge(START, "note").compile(checkpointer=saver)


async def column(pool: Pool, sql: str) -> str:
    async with pool.connection() as connection:
        rows = await (await connection.execute(sql.encode())).fetchall()
    return str(rows)


def config(**configurable: Any) -> Any:
    return {"configurable": {"thread_id": "t", **configurable}}


async def test_a_thread_that_was_stored_unsealed_goes_on_sealed(pool: Pool) -> None:
    plain, sealed = graph_with(pool, Sealing()), graph_with(pool, SEALING)
    await plain.ainvoke({"name": SECRET, "size": 3, "log": ["first"]}, config())
    # Only `log` changes: LangGraph gives the saver no new version of the others.
    after = await sealed.ainvoke({"log": ["second"]}, config())
    again = await sealed.ainvoke({"log": ["third"]}, config(token=SECRET))
    assert (after["name"], after["size"]) == (again["name"], again["size"]) == (SECRET, 3)
    assert again["log"] == [
        *("first", f"saw {SECRET}", "second", f"saw {SECRET}", "third", f"saw {SECRET}"),
    ]
    states = [each async for each in sealed.aget_state_history(config())]
    assert [each.values.get("name") for each in states] == [SECRET] * 8 + [None]
    assert states[0].metadata["token"] == SECRET
    newest = "ORDER BY checkpoint_id DESC LIMIT 6"
    for name in ("checkpoint", "metadata"):
        assert SECRET not in await column(pool, f"SELECT {name} FROM checkpoints {newest}")
    with pytest.raises(CannotOpen, match="GREENROOM_ENCRYPTION_KEYS"):
        await plain.aget_state(config())


async def test_a_fork_of_a_sealed_thread_has_its_values(pool: Pool) -> None:
    graph = graph_with(pool, SEALING)
    await graph.ainvoke({"name": SECRET, "log": []}, config())
    states = [each async for each in graph.aget_state_history(config())]
    forked = await graph.aupdate_state(states[-2].config, {"size": 5})
    assert (await graph.ainvoke(None, forked))["name"] == SECRET


async def test_events_are_found_in_a_sealed_tail(pool: Pool) -> None:
    request = asked(resumable=True)
    await commit(pool, journal.admit(request, actor="a"))
    run_id = request.run_id
    await tails.append(pool, run_id, 1, [Event(1, 1, "values", b'{"a":0}')])
    events = [Event(n, n, "values", b'{"a":%d}' % n) for n in range(2, 5)]
    await tails.append(pool, run_id, 1, events, sealing=SEALING)
    assert await tails.read(pool, run_id, 1, 10, sealing=SEALING) == events
    with pytest.raises(CannotOpen):
        await tails.read(pool, run_id, 1, 10)

    async def has(
        data: bytes, *, whole: bool = True, before: int = 9, name: str = "values"
    ) -> bool:
        return await tails.has(
            pool, run_id, name, data, whole=whole, before=before, sealing=SEALING
        )

    assert await has(b'{"a":0}')
    assert await has(b'{"a":3}')
    assert await has(b'"a":3', whole=False)
    assert not await has(b'"a":3')
    assert not await has(b'{"a":3}', before=3)
    assert not await has(b'{"a":3}', name="updates")
    assert not await has(b'{"a":5}')


async def test_items_are_sealed_for_graphs_and_clients(pool: Pool) -> None:
    store, records = Store(pool, sealing=SEALING), PostgresRecords(pool, sealing=SEALING)
    await Store(pool).aput(("d",), "old", {"text": "plain"})
    await store.aput(("d",), "new", {"text": SECRET})
    assert SECRET not in await column(pool, "SELECT value FROM store")
    found = await store.asearch(("d",))
    assert [each.value for each in found] == [{"text": "plain"}, {"text": SECRET}]
    item = await store.aget(("d",), "new")
    assert item is not None
    assert item.value == {"text": SECRET}
    assert (await records.get_item(("d",), "new", refresh=False)) is not None
    with pytest.raises(InvalidRequest, match="no filter can look into them"):
        await store.asearch(("d",), filter={"text": SECRET})


async def test_values_are_shown_and_not_searched(pool: Pool) -> None:
    records = PostgresRecords(pool, sealing=SEALING)
    thread_id = str(uuid.uuid4())
    await records.create_thread(thread_id, metadata={}, if_exists="raise", ttl=None, scope=SERVER)
    await store_values(pool, thread_id, b'{"name":"the word"}', sealing=SEALING)
    assert SECRET not in await column(pool, 'SELECT "values", facets FROM greenroom.threads')
    thread = await records.get_thread(thread_id, scope=SERVER)
    assert thread is not None
    assert "the word" in str(orjson.dumps(thread["values"]))
    with pytest.raises(InvalidRequest, match="search by 'metadata'"):
        await records.count_threads(ThreadFilter(values={"name": SECRET}), scope=SERVER)
