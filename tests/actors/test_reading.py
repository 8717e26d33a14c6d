"""The logs of a run actor: who comes early waits, who comes late is told, and bytes are bounded."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace

import pytest

from actors.run import reading
from actors.run.reading import GONE_KEPT, NotYetHere, Shelf
from greenroom.core.errors import NotFound
from greenroom.core.events import LIVE, EventLog
from greenroom.core.runs import Batch, Outcome, RunOrder, RunStatus
from tests.run_records import an_order

BOUND_S = 30.0
LARGE = 1 << 30
ENDING = Outcome(status=RunStatus.SUCCESS, output=b"{}")


@dataclass
class Executed:
    order: RunOrder
    log: EventLog
    outcome: Outcome | None = None


def shelf_of(run_max_bytes: int = LARGE, max_bytes: int = LARGE, wait_s: float = 0.0) -> Shelf:
    return Shelf(run_max_bytes, max_bytes, arrival_wait_s=wait_s)


def begin(shelf: Shelf, run_id: str, attempt: int = 1) -> Executed:
    executed = Executed(an_order(run_id, attempt), shelf.new_log(attempt))
    shelf.add(executed)
    return executed


def end(shelf: Shelf, executed: Executed) -> None:
    executed.outcome = ENDING
    shelf.finish(executed)


async def read(shelf: Shelf, run_id: str, attempt: int = 1, after: int = 0) -> Batch:
    return await shelf.read(run_id, attempt, after, 0.0, None, False)


async def test_a_reader_waits_for_a_run_that_is_on_its_way() -> None:
    shelf = shelf_of(wait_s=BOUND_S)
    reading = asyncio.create_task(read(shelf, "r"))
    await asyncio.sleep(0)
    begin(shelf, "r").log.append("values", b"1", 1)
    assert b"data: 1" in (await reading).body
    assert shelf.arrivals == {}


async def test_a_run_that_does_not_come_is_not_known_yet_and_its_reader_leaves_nothing() -> None:
    shelf = shelf_of(wait_s=0.01)
    batch = await read(shelf, "r", after=7)
    assert (batch.known, batch.gone, batch.closed, batch.cursor) == (False, False, True, 7)
    with pytest.raises(NotYetHere):
        await shelf.outcome("r", 1, 0.0)
    leaving = asyncio.create_task(shelf_of(wait_s=BOUND_S).read("r", 1, 0, 0.0, None, False))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert shelf.arrivals == {}


async def test_a_later_attempt_is_waited_for_though_an_earlier_one_is_here() -> None:
    shelf = shelf_of(wait_s=BOUND_S)
    begin(shelf, "r")
    reading = asyncio.create_task(read(shelf, "r", attempt=2))
    await asyncio.sleep(0)
    begin(shelf, "r", attempt=2).log.append("values", b"2", 1)
    assert b"data: 2" in (await reading).body


async def test_a_run_that_is_gone_is_said_to_be_at_once() -> None:
    shelf = shelf_of(wait_s=60.0)
    handed_back, superseded = begin(shelf, "back"), begin(shelf, "superseded")
    superseded.log.append("values", b"1", 1, shown=False)
    shelf.drop(handed_back, whole=True)
    shelf.drop(superseded, whole=False)
    for run_id in ("back", "superseded"):
        batch = await asyncio.wait_for(read(shelf, run_id), BOUND_S)
        assert (batch.body, batch.closed, batch.known, batch.gone) == (b"", True, False, True)
        with pytest.raises(NotFound) as raised:
            await asyncio.wait_for(shelf.outcome(run_id, 1, 0.0), BOUND_S)
        assert not isinstance(raised.value, NotYetHere)
    assert shelf.size_bytes == 0
    assert shelf.has_had("back", 1)
    assert not shelf.has_had("back", 2)


async def test_a_reader_in_the_middle_of_an_attempt_that_is_dropped_is_sent_on() -> None:
    shelf = shelf_of()
    executed = begin(shelf, "r")
    reading = asyncio.create_task(shelf.read("r", 1, executed.log.end, BOUND_S, None, False))
    await asyncio.sleep(0)
    shelf.drop(executed, whole=True)
    batch = await reading
    assert (batch.closed, batch.known, batch.gone) == (True, False, True)


async def test_what_was_emitted_is_read_in_pieces_and_closed_only_with_the_last_one() -> None:
    shelf = shelf_of()
    executed = begin(shelf, "r")
    for number in range(10):
        executed.log.append("values", b"%d" % number * 100_000, 1)
    end(shelf, executed)
    cursor, bodies = 0, []
    while True:
        batch = await read(shelf, "r", after=cursor)
        bodies.append(batch.body)
        cursor = batch.cursor
        if batch.closed:
            break
    assert len(bodies) == 5
    assert b"".join(bodies).count(b"event: values") == 10
    assert (batch.known, await shelf.outcome("r", 1, 0.0)) == (True, ENDING)


async def test_what_a_filter_drops_is_passed_over_in_one_read() -> None:
    shelf = shelf_of()
    executed = begin(shelf, "r")
    for _ in range(10):
        executed.log.append("updates", b"0" * 100_000, 1)
    executed.log.append("values", b"1", 1)
    batch = await shelf.read("r", 1, 0, 0.0, frozenset({"values"}), False)
    assert batch.body == b"event: values\r\ndata: 1\r\n\r\n"


async def test_a_live_reader_is_told_where_it_stands() -> None:
    shelf = shelf_of()
    executed = begin(shelf, "r")
    executed.log.append("values", b"old", 1)
    batch = await read(shelf, "r", after=LIVE)
    executed.log.append("values", b"new", 1)
    assert b"old" not in (await read(shelf, "r", after=batch.cursor)).body


async def test_ids_name_the_run_in_a_threads_stream() -> None:
    shelf = shelf_of()
    event = begin(shelf, "r").log.append("values", b"1", 5)
    for started_us, expected in ((None, f"id: 5-{event.seq}"), (9, f"id: 9-{event.seq}")):
        batch = await shelf.read("r", 1, 0, 0.0, None, True, started_us)
        assert expected in batch.body.decode()


# --- bytes ----------------------------------------------------------------------------------------


def test_finished_logs_are_kept_up_to_the_bound_of_one_run() -> None:
    shelf = shelf_of(run_max_bytes=25)
    for run_id in "abc":
        executed = begin(shelf, run_id)
        executed.log.append("values", b"0" * 10, 1)
        end(shelf, executed)
    assert [run_id for run_id in "abc" if shelf.find(run_id)] == ["b", "c"]
    assert shelf.size_bytes == 2 * (10 + len(ENDING.output))


def test_outcomes_count_as_their_logs_do_and_inputs_are_not_kept() -> None:
    shelf = shelf_of(run_max_bytes=100)
    values = b"1" * 30
    for run_id, output in (("a", values), ("b", values), ("c", b"2" * 30), ("d", b"3" * 30)):
        executed = begin(shelf, run_id)
        executed.order = replace(executed.order, kwargs=b"0" * 1000)
        # The output of "a" and "b" is their state.
        executed.outcome = Outcome(status=RunStatus.SUCCESS, output=output, values=values)
        shelf.finish(executed)
        assert shelf.size_bytes <= 100
    assert [run_id for run_id in "abcd" if shelf.find(run_id)] == ["d"]
    assert shelf.size_bytes == 60
    kept = shelf.find("d")
    assert kept is not None
    assert (kept.order.kwargs, kept.order.attempt) == (b"", 1)
    again = begin(shelf, "d", attempt=2)
    end(shelf, again)
    assert shelf.size_bytes == len(ENDING.output)


def test_all_logs_together_stay_within_the_actors_bound_and_finished_ones_go_first() -> None:
    shelf = shelf_of(run_max_bytes=100, max_bytes=100 + len(ENDING.output))
    for run_id in "ab":
        finished = begin(shelf, run_id)
        finished.log.append("values", b"0" * 20, 1)
        end(shelf, finished)
    small, large = begin(shelf, "small"), begin(shelf, "large")
    small.log.append("values", b"0" * 10, 1)
    for _ in range(20):
        large.log.append("values", b"0" * 10, 1)
        shelf.trim()
    assert shelf.size_bytes == 100 + len(ENDING.output)
    assert shelf.find("a") is None
    assert shelf.find("b") is not None
    assert (small.log.size_bytes, large.log.size_bytes) == (10, 70)
    assert len(large.log.read(0).events) == 7


def test_the_runs_that_are_gone_are_remembered_up_to_a_number() -> None:
    shelf = shelf_of()
    for number in range(GONE_KEPT + 10):
        shelf.drop(begin(shelf, str(number)), whole=True)
    assert len(shelf.gone) == GONE_KEPT
    assert shelf.current == []


# --- a retiring actor waits for the readers of its attempts -------------------------------------


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    monkeypatch.setattr(reading, "LOOK_S", 0.001)
    monkeypatch.setattr(reading, "READ_AGAIN_S", 0.05)
    shelf = shelf_of()
    executed = begin(shelf, "a")
    executed.log.append("values", b"{}", 1)
    end(shelf, executed)
    return shelf


async def took_s(shelf: Shelf) -> float:
    begun_s = time.monotonic()
    await asyncio.wait_for(shelf.until_read(), BOUND_S)
    return time.monotonic() - begun_s


@pytest.mark.parametrize("how", ["read", "outcome"])
async def test_a_retiring_actor_goes_when_its_readers_have_the_end(shelf: Shelf, how: str) -> None:
    retiring = asyncio.create_task(shelf.until_read())
    await asyncio.sleep(0)
    assert not retiring.done()
    if how == "read":
        assert (await read(shelf, "a")).closed
    else:
        assert await shelf.outcome("a", 1, 1.0) is not None
    await asyncio.wait_for(retiring, BOUND_S)


async def test_a_retiring_actor_waits_for_a_reader_but_not_for_ever(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "UNDELIVERED_S", 0.4)
    running = begin(shelf, "b")
    running.log.append("values", b"{}", 1)
    assert not (await read(shelf, "b")).closed
    await read(shelf, "a")
    assert await took_s(shelf) >= 0.4


async def test_a_retiring_actor_keeps_an_unread_end_for_a_moment(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "UNREAD_S", 0.2)
    monkeypatch.setattr(reading, "UNDELIVERED_S", 3600.0)
    assert await took_s(shelf) >= 0.2


async def test_nothing_is_kept_of_an_attempt_that_is_gone(shelf: Shelf) -> None:
    await read(shelf, "a")
    shelf.drop(begin(shelf, "b"), whole=False)
    await shelf.read("b", 2, 0, 0.0, None, False)
    assert set(shelf.readings) == {"a"}
