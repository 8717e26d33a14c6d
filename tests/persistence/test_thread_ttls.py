"""Times to live of threads: their default, what is expired, when a pruned one expires again."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from langgraph.channels.delta import DeltaChannel
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from greenroom.core.scopes import SERVER
from greenroom.core.threads import ThreadTtl
from greenroom.persistence import journal, upkeep
from greenroom.persistence.checkpoints import PooledSaver
from greenroom.persistence.database import Pool
from greenroom.persistence.records import PostgresRecords
from greenroom.persistence.slices import COPY_RECORD
from tests.persistence.test_outbox import a_request, commit

DAY = ThreadTtl(default_minutes=1440.0, strategy="keep_latest")


async def rows(pool: Pool, sql: str, *params: Any) -> list[Any]:
    given = params[0] if params and isinstance(params[0], dict) else params
    async with pool.connection() as conn:
        cursor = await conn.execute(sql, given)  # type: ignore[arg-type]
        return await cursor.fetchall() if cursor.description is not None else []


async def make(pool: Pool, thread_id: str, ttl: Any = None) -> None:
    await PostgresRecords(pool).create_thread(
        thread_id, metadata={}, if_exists="raise", ttl=ttl, scope=SERVER
    )


async def ttls(pool: Pool) -> dict[str, tuple[float | None, str | None]]:
    found = await rows(pool, "SELECT thread_id, ttl_minutes, ttl_strategy FROM greenroom.threads")
    return {row["thread_id"]: (row["ttl_minutes"], row["ttl_strategy"]) for row in found}


async def age(pool: Pool, seconds: float) -> None:
    """Lets time pass for all threads; the trigger follows."""
    await rows(
        pool,
        "UPDATE greenroom.threads SET updated_at = updated_at - make_interval(secs => %s),"
        " pruned_at = pruned_at - make_interval(secs => %s)",
        seconds,
        seconds,
    )


async def test_new_threads_have_the_default_however_they_are_made(pool: Pool) -> None:
    await make(pool, "before")
    await upkeep.set_default_ttl(pool, DAY)
    await make(pool, "requested")
    await make(pool, "own", ttl={"ttl": 5})
    await commit(pool, journal.admit(a_request("of-a-run", create_thread=True), actor="a"))
    await rows(pool, COPY_RECORD, {"copy": "copy", "thread": "before", "metadata": "{}"})
    assert await ttls(pool) == {
        "before": (None, None),
        "requested": (1440, "keep_latest"),
        "own": (5, "delete"),
        "of-a-run": (1440, "keep_latest"),
        "copy": (1440, "keep_latest"),
    }
    await upkeep.set_default_ttl(pool, ThreadTtl())
    await make(pool, "after")
    assert (await ttls(pool))["after"] == (None, None)


async def test_what_is_expired_has_a_strategy(pool: Pool) -> None:
    await make(pool, "kept", ttl={"ttl": 1, "strategy": "keep_latest"})
    await make(pool, "deleted", ttl={"ttl": 2, "strategy": "delete"})
    await make(pool, "later", ttl={"ttl": 60})
    await age(pool, 180)
    expired = await upkeep.expired_threads(pool, None, limit=10)
    assert expired == [("kept", "keep_latest"), ("deleted", "delete")]
    assert await upkeep.is_expired(pool, "kept", None, "keep_latest")
    assert not await upkeep.is_expired(pool, "kept", None)
    assert not await upkeep.is_expired(pool, "deleted", None, "keep_latest")


async def test_a_pruned_thread_expires_again_after_its_next_change(pool: Pool) -> None:
    await make(pool, "t", ttl={"ttl": 1, "strategy": "keep_latest"})
    await age(pool, 120)
    await commit(pool, journal.note_pruned("t"))
    await age(pool, 120)
    assert await upkeep.expired_threads(pool, None, limit=10) == []
    records = PostgresRecords(pool)
    thread = await records.get_thread("t", scope=SERVER)
    assert thread is not None
    assert thread["ttl"] == {"strategy": "keep_latest", "ttl_minutes": 1, "expires_at": None}
    await records.patch_thread("t", metadata={"a": 1}, ttl=None, scope=SERVER)
    thread = await records.get_thread("t", scope=SERVER)
    assert thread is not None
    assert thread["ttl"]["expires_at"] is not None
    await age(pool, 120)
    assert await upkeep.expired_threads(pool, None, limit=10) == [("t", "keep_latest")]


async def test_the_size_of_a_thread_is_that_of_its_state(pool: Pool) -> None:
    assert await upkeep.size_of(pool, "none") == (0, 0)
    await rows(
        pool,
        "INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, checkpoint, metadata)"
        " VALUES ('t', '', '1', '{}', '{}'), ('t', '', '2', '{}', '{}'),"
        " ('u', '', '1', '{}', '{}')",
    )
    await rows(
        pool,
        "INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)"
        " VALUES ('t', '', 'c', '1', 'x', %s)",
        b"x" * 500,
    )
    size = await upkeep.size_of(pool, "t")
    assert size.checkpoints == 2
    assert size.bytes > 500


# --- delta channels -----------------------------------------------------------------------------


def joined(state: list[str], writes: list[list[str]]) -> list[str]:
    return [*state, *(each for write in writes for each in write)]


class Notes(TypedDict):
    notes: Annotated[list[str], DeltaChannel(joined, list)]


async def test_a_thread_with_a_delta_channel_keeps_its_state(pool: Pool) -> None:
    """Its value is rebuilt from older checkpoints, so nothing of it may be pruned."""
    builder = StateGraph(Notes)
    builder.add_node("note", lambda state: {"notes": [f"n{len(state['notes'])}"]})
    builder.add_edge(START, "note")
    saver = PooledSaver(pool, thread_id="t")
    graph = builder.compile(checkpointer=saver)
    config: Any = {"configurable": {"thread_id": "t"}}
    for _ in range(3):
        await graph.ainvoke({"notes": ["asked"]}, config)
    before = (await graph.aget_state(config)).values
    assert len(before["notes"]) == 6
    with pytest.raises(NotImplementedError, match="DeltaChannel"):
        await saver.aprune(["t"], strategy="keep_latest")
    assert (await graph.aget_state(config)).values == before
