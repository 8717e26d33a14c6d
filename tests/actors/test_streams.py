"""The hops of a stream: from the registry to actors, from attempt to attempt, to the tail."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import pytest

from actors.calls.answers import ActorGone
from actors.calls.directory import Handles
from actors.gateway.streams import Streams
from actors.run.reading import NotYetHere
from greenroom.core.errors import NotFound, Unreachable
from greenroom.core.events import LIVE, Event, first_seq
from greenroom.core.runs import UNTIL_END, Batch, Outcome, Placement, RunLocation, RunStatus
from greenroom.persistence import tails
from greenroom.persistence.database import Pool
from tests.actors.doubles import until
from tests.persistence.test_tails import a_run

BOUND_S = 30.0
ENDING = Outcome(status=RunStatus.SUCCESS, output=b'"whole"')
OVER = RunLocation(status=RunStatus.SUCCESS)
NOT_YET = Batch(body=b"", cursor=0, closed=True, known=False)
GONE = Batch(body=b"", cursor=0, closed=True, known=False, gone=True)


def at(attempt: int, actor: str = "x") -> Placement:
    return Placement(run_id="r", attempt=attempt, actor=actor)


def told(body: bytes, cursor: int, *, closed: bool = False) -> Batch:
    return Batch(body=body, cursor=cursor, closed=closed)


class World:
    """A registry and actors that answer by a script; an exception is raised."""

    def __init__(
        self, *, located: list[RunLocation], read: list[Any], database: Pool | None = None
    ):
        self.located = located
        self.read = read
        self.asked: list[int] = []
        self.calls: list[tuple[Any, ...]] = []
        self.forgotten: list[str] = []
        self.streams = Streams(
            cast(Handles, self),
            cast(Pool, database),
            self.locate,
            wait_s=lambda: BOUND_S,
            state_of=self.state_of,
        )

    async def locate(self, run_id: str, attempt: int) -> RunLocation:
        self.asked.append(attempt)
        return self.located.pop(0)

    async def state_of(self, graph_id: str, thread_id: str) -> bytes:
        assert (graph_id, thread_id) == ("g", "t")
        return (
            b'{"values": {"n": 1.0, "big": 123456789012345678901}, "next": ["ask"],'
            b' "interrupts": [{"id": "i", "value": "?"}], "tasks": []}'
        )

    async def call(
        self, actor: str, method: str, run_id: str, attempt: int, *args: Any, within_s: float
    ) -> Any:
        self.calls.append((actor, method, attempt, args[0]))
        await asyncio.sleep(0)
        answer = self.read.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def forget(self, actor: str) -> None:
        self.forgotten.append(actor)

    async def seen(
        self, placement: Placement | None, *, run_id: str = "r", after: int = 0, **given: Any
    ) -> bytes:
        async def collect() -> bytes:
            wanted: dict[str, Any] = {
                "placement": placement,
                "after": after,
                "modes": None,
                "with_ids": False,
                "resumable": False,
                **given,
            }
            return b"".join([b.body async for b in self.streams.events(run_id, **wanted)])

        return await asyncio.wait_for(collect(), BOUND_S)


def running(attempt: int, actor: str = "x") -> RunLocation:
    return RunLocation(status=RunStatus.RUNNING, placement=at(attempt, actor))


async def test_a_reader_that_is_told_not_yet_asks_for_the_same_attempt_again() -> None:
    """A dense actor whose loop a node blocks takes its orders later than a reader waits."""
    world = World(
        located=[running(1), running(1)],
        read=[NOT_YET, NOT_YET, told(b"a", 1), told(b"b", 2, closed=True)],
    )
    assert await world.seen(at(1)) == b"ab"
    assert world.asked == [0, 0]


async def test_whoever_waits_for_an_outcome_asks_for_the_same_attempt_again() -> None:
    world = World(located=[running(1)], read=[NotYetHere("not here"), None, ENDING])
    assert await world.streams.outcome("r", at(1)) == ENDING
    assert world.asked == [0]


@pytest.mark.parametrize("left", [GONE, ActorGone("x")], ids=["handed back", "died"])
async def test_a_reader_goes_on_with_the_next_attempt(left: Any) -> None:
    world = World(located=[running(2, "y")], read=[told(b"a", 7), left, told(b"b", 9, closed=True)])
    assert await world.seen(at(1)) == b"ab"
    assert world.asked == [1]
    assert world.calls == [
        ("x", "read", 1, 0),
        ("x", "read", 1, 7),
        ("y", "read", 2, *[0 if left is GONE else 7]),
    ]
    assert world.forgotten == ([] if left is GONE else ["x"])


@pytest.mark.parametrize("left", [NotFound("gone"), ActorGone("x")])
async def test_an_outcome_is_asked_of_the_next_attempt(left: Exception) -> None:
    world = World(located=[running(2, "y")], read=[left, ENDING])
    assert await world.streams.outcome("r", at(1)) == ENDING
    assert world.asked == [1]


async def test_an_actor_that_cannot_be_reached_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("actors.gateway.streams.UNREACHABLE_PAUSE_S", 0)
    world = World(located=[], read=[Unreachable("?"), told(b"a", 1, closed=True)])
    assert await world.seen(at(1)) == b"a"


async def test_from_the_actor_to_the_tail(pool: Pool) -> None:
    """The reader has seen the first event live; the actor dies; the run is over by then."""
    run_id = await a_run(pool)
    events = [Event(first_seq(1) + n, 5, "values", b"%d" % n * 200_000) for n in range(4)]
    await tails.append(pool, run_id, 1, events)
    world = World(
        located=[OVER], read=[told(b"live", events[0].seq), ActorGone("x")], database=pool
    )
    seen = await world.seen(at(1), run_id=run_id, resumable=True)
    assert seen.startswith(b"live")
    assert [seen.count(event.data) for event in events] == [0, 1, 1, 1]


async def test_a_failed_run_whose_actor_is_gone_has_its_error_told_once(pool: Pool) -> None:
    for in_the_tail in (False, True):
        run_id = await a_run(pool)
        if in_the_tail:
            error = Event(first_seq(1) + 1, 5, "error", b'{"error": "E"}')
            await tails.append(pool, run_id, 1, [error])
        async with pool.connection() as connection:
            await connection.execute(
                "UPDATE greenroom.runs SET status = 'error', error = %s WHERE run_id = %s",
                ('{"error": "E"}', run_id),
            )
        world = World(located=[OVER], read=[ActorGone("x")], database=pool)
        seen = await world.seen(at(1), run_id=run_id, resumable=True)
        assert seen.count(b"event: error") == 1


async def test_the_error_of_an_attempt_that_died_before_it_was_reported_is_no_end(
    pool: Pool,
) -> None:
    run_id = await a_run(pool)
    await tails.append(pool, run_id, 1, [Event(first_seq(1), 5, "error", b"{}")])
    async with pool.connection() as connection:
        await connection.execute(
            "UPDATE greenroom.runs SET attempt = 2 WHERE run_id = %s", (run_id,)
        )
    await tails.append(pool, run_id, 2, [Event(first_seq(2), 5, "values", b"1")])
    world = World(located=[OVER], read=[], database=pool)
    assert b"event: error" not in await world.seen(None, run_id=run_id, resumable=True)


ASKED = {"n": 1.0, "big": 123456789012345678901, "__interrupt__": [{"id": "i", "value": "?"}]}


async def test_how_a_stateless_run_ended_is_found_without_its_actor_and_its_thread(
    pool: Pool,
) -> None:
    run_id = await a_run(pool)
    await over(pool, run_id)
    world = World(located=[OVER], read=[ActorGone("x")], database=pool)
    found = await world.streams.outcome(run_id, at(1))
    assert (found.status, found.error) == ("success", None)
    assert json.loads(found.output) == ASKED
    assert found.values == b'{"n": 1.0, "big": 123456789012345678901}'


@pytest.mark.parametrize(
    ("values", "output"),
    [
        ('{"n": 1.0, "big": 123456789012345678901}', ASKED),
        (None, {"__interrupt__": ASKED["__interrupt__"]}),
        ("[1]", {"__interrupt__": ASKED["__interrupt__"]}),
    ],
)
async def test_how_a_run_ended_is_found_in_its_threads_record(
    pool: Pool,
    values: str | None,
    output: Any,
) -> None:
    run_id = await a_run(pool)
    await over(pool, run_id)
    async with pool.connection() as connection:
        await connection.execute(
            'INSERT INTO greenroom.threads (thread_id, "values", interrupts) VALUES (%s, %s, %s)',
            ("t", values, '{"a task": [{"id": "i", "value": "?"}]}'),
        )
    world = World(located=[OVER], read=[ActorGone("x")], database=pool)
    assert json.loads((await world.streams.outcome(run_id, at(1))).output) == output


@pytest.mark.parametrize("has_thread", [True, False])
async def test_what_is_told_late_is_cut_by_the_output_schema(
    pool: Pool,
    has_thread: bool,
) -> None:
    run_id = await a_run(pool)
    await over(pool, run_id, '{"stream_mode": ["values"]}')
    async with pool.connection() as connection:
        await connection.execute("UPDATE greenroom.runs SET output_keys = '[\"n\"]'")
        if has_thread:
            await connection.execute(
                'INSERT INTO greenroom.threads (thread_id, "values", interrupts)'
                " VALUES ('t', %s, %s)",
                ('{"n": 1.0, "big": 2}', '{"a task": [{"id": "i", "value": "?"}]}'),
            )
    shown = {"n": 1.0, "__interrupt__": ASKED["__interrupt__"]}
    world = World(located=[OVER], read=[ActorGone("x")], database=pool)
    assert json.loads((await world.streams.outcome(run_id, at(1))).output) == shown
    world = World(located=[OVER], read=[told(b"", 1), ActorGone("x")], database=pool)
    seen = await world.seen(at(1), run_id=run_id)
    assert json.loads(seen.partition(b"data: ")[2]) == shown


async def test_how_a_run_failed_is_found_with_the_keys_of_its_output(pool: Pool) -> None:
    run_id = await a_run(pool)
    async with pool.connection() as connection:
        await connection.execute(
            "UPDATE greenroom.runs SET status = 'error', error = '{\"error\": \"E\"}',"
            " output_keys = '[\"n\"]'"
        )
    world = World(located=[OVER], read=[ActorGone("x")], database=pool)
    found = await world.streams.outcome(run_id, at(1))
    assert (found.status, found.output_keys) == ("error", b'["n"]')


@pytest.mark.parametrize(
    ("kwargs", "given", "told_again"),
    [
        ('{"stream_mode": ["updates", "values"]}', {}, True),
        ('{"stream_mode": ["updates"]}', {}, False),
        ('{"stream_mode": ["values"]}', {"modes": frozenset(["updates"])}, False),
        ('{"stream_mode": ["values"]}', {"resumable": True}, False),
    ],
)
async def test_a_stream_whose_actor_died_over_the_last_events_ends_with_the_values(
    pool: Pool,
    kwargs: str,
    given: dict[str, Any],
    told_again: bool,
) -> None:
    run_id = await a_run(pool)
    await over(pool, run_id, kwargs)
    world = World(located=[OVER], read=[told(b"", 1), ActorGone("x")], database=pool)
    seen = await world.seen(at(1), run_id=run_id, **given)
    assert seen.count(b"event: values") == int(told_again)
    assert not told_again or json.loads(seen.partition(b"data: ")[2]) == ASKED


async def over(pool: Pool, run_id: str, kwargs: str = "{}") -> None:
    async with pool.connection() as connection:
        await connection.execute(
            "UPDATE greenroom.runs SET status = 'success', attempt = 1, kwargs = %s"
            " WHERE run_id = %s",
            (kwargs, run_id),
        )


# --- sharing --------------------------------------------------------------------------------------


class Gate(World):
    """Its reads wait until they are let."""

    def __init__(self) -> None:
        super().__init__(located=[], read=[])
        self.open = asyncio.Event()
        self.cancelled = 0

    async def call(
        self, actor: str, method: str, run_id: str, attempt: int, *args: Any, within_s: float
    ) -> Any:
        self.calls.append((actor, method, attempt, args[0]))
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        after = args[0]
        return told(b"%d" % max(after, 0), after + 1, closed=after == 3)


async def test_readers_at_the_same_place_are_one_read_and_one_batch() -> None:
    world = Gate()
    readers = [asyncio.create_task(world.seen(at(1))) for _ in range(50)]
    await until(lambda: world.calls)
    world.open.set()
    assert {await reader for reader in readers} == {b"0123"}
    assert len(world.calls) == 4


async def test_a_batch_that_somebody_still_has_is_read_no_second_time_and_then_is_gone() -> None:
    world = Gate()
    world.open.set()
    wanted: dict[str, Any] = {
        "placement": at(1),
        "after": 0,
        "modes": None,
        "with_ids": False,
        "resumable": False,
    }
    slow = [world.streams.events("r", **wanted) for _ in range(5)]
    bodies = [(await anext(reader)).body for reader in slow]
    assert all(body is bodies[0] for body in bodies)
    assert len(world.calls) == 1
    for reader in slow:
        await reader.aclose()  # type: ignore[attr-defined]
    await until(lambda: not world.streams.shared.batches)


async def test_a_read_ends_with_its_last_reader_and_not_before() -> None:
    world = Gate()
    readers = [asyncio.create_task(world.seen(at(1))) for _ in range(2)]
    await until(lambda: world.calls)
    readers[0].cancel()
    await asyncio.gather(readers[0], return_exceptions=True)
    assert world.cancelled == 0
    readers[1].cancel()
    await asyncio.gather(readers[1], return_exceptions=True)
    await until(lambda: world.cancelled)
    assert not world.streams.shared.under_way


async def test_whoever_wants_what_comes_from_now_on_asks_for_itself() -> None:
    world = Gate()
    readers = [asyncio.create_task(world.seen(at(1), after=LIVE)) for _ in range(2)]
    await until(lambda: len(world.calls) == 2)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)


def test_no_attempt_comes_after_any() -> None:
    assert first_seq(2**20) < first_seq(UNTIL_END)
