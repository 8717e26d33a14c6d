"""Versions of shipped graphs: the newest is for the next run, a run keeps its own."""

from __future__ import annotations

import asyncio

import pytest

from greenroom.core.errors import ConfigurationError
from greenroom.persistence import shipped
from greenroom.persistence.database import Pool
from greenroom.persistence.records import register_assistants
from tests.persistence.test_tails import a_run, change

PLACEMENT = {"runs_per_actor": 1, "resources": {"big": 1.0}}


async def ship(pool: Pool, data: bytes, graph_id: str = "g") -> int:
    return await shipped.ship(pool, graph_id, data, python="3.11", placement=PLACEMENT)


async def test_what_was_shipped_comes_back_with_its_placement(pool: Pool) -> None:
    number = await ship(pool, b"\x00one")
    found = await shipped.payload(pool, number)
    assert found == shipped.Payload(number=number, python="3.11", data=b"\x00one")
    assert await shipped.placements(pool) == {"g": PLACEMENT}
    assert await shipped.newest(pool, "g") == number


async def test_the_same_bytes_are_the_same_version(pool: Pool) -> None:
    assert await ship(pool, b"one") == await ship(pool, b"one")
    assert await ship(pool, b"two") > await ship(pool, b"two") - 1


async def test_a_run_keeps_the_version_that_it_began_with(pool: Pool) -> None:
    run_id = await a_run(pool)
    first = await ship(pool, b"one")
    assert await shipped.pin(pool, "g", run_id) == first
    second = await ship(pool, b"two")
    assert await shipped.pin(pool, "g", run_id) == first
    assert await shipped.pin(pool, "g", await a_run(pool)) == second
    assert await shipped.payload(pool, first) is not None


async def test_a_version_goes_when_no_run_can_ask_for_it(pool: Pool) -> None:
    run_id = await a_run(pool)
    first = await ship(pool, b"one")
    await shipped.pin(pool, "g", run_id)
    second = await ship(pool, b"two")
    await change(pool, "UPDATE greenroom.runs SET status = 'success' WHERE run_id = %s", (run_id,))
    third = await ship(pool, b"three")
    assert [await shipped.payload(pool, number) is None for number in (first, second, third)] == [
        True,
        True,
        False,
    ]


async def test_versions_of_another_graph_are_left_alone(pool: Pool) -> None:
    other = await ship(pool, b"other", "other")
    await ship(pool, b"one")
    await ship(pool, b"two")
    assert await shipped.payload(pool, other) is not None


async def test_a_run_that_has_no_record_is_given_none(pool: Pool) -> None:
    await ship(pool, b"one")
    assert await shipped.pin(pool, "g", "00000000-0000-0000-0000-000000000000") is None


async def test_a_graph_of_the_configuration_is_not_replaced(pool: Pool) -> None:
    await register_assistants(pool, ["g"])
    with pytest.raises(ConfigurationError, match="a graph 'g' of its own"):
        await ship(pool, b"one")


async def test_another_placement_is_refused(pool: Pool) -> None:
    await ship(pool, b"one")
    with pytest.raises(ConfigurationError, match="another placement"):
        await shipped.ship(pool, "g", b"two", python="3.11", placement={"runs_per_actor": 9})


async def test_a_version_that_is_being_chosen_is_not_forgotten(pool: Pool) -> None:
    """A run chooses the newest, and the next one is shipped before that is committed."""
    run_id = await a_run(pool)
    first = await ship(pool, b"one")
    async with pool.connection() as conn, conn.transaction():
        # The run's record is in use, e.g. by its last write: who chooses waits for it.
        await conn.execute("SELECT 1 FROM greenroom.runs FOR UPDATE")
        choosing = asyncio.create_task(shipped.pin(pool, "g", run_id))
        await asyncio.sleep(0.2)
        shipping = asyncio.create_task(ship(pool, b"two"))
        await asyncio.sleep(0.2)
    chosen, second = await asyncio.wait_for(asyncio.gather(choosing, shipping), 20)
    assert (chosen, second > first) == (first, True)
    assert await shipped.payload(pool, first) is not None
