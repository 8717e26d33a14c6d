"""The lanes of an inspector: user code that hangs, blocks and raises concerns its graph only."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from actors.common.placement import PoolSpec
from actors.common.setup import InspectorSetup
from actors.inspector import lanes
from actors.inspector.actor import Inspector
from actors.inspector.asking import Replaced
from actors.inspector.lanes import Lane
from actors.inspector.loaded import Loaded, Means
from greenroom.core.errors import DatabaseUnavailable, Fenced, NotFound, Unanswered, Unavailable
from greenroom.core.ports import StateQuestion
from greenroom.core.store import IndexSpec
from greenroom.graphs.embedding import Embedder
from tests.actors.doubles import BOUND_S, until

CANCEL_S = 0.2


@pytest.fixture(autouse=True)
async def quick(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(lanes, "CANCEL_S", CANCEL_S)
    yield
    await until(lambda: not any(t.name.startswith("lane-") for t in threading.enumerate()))


class Database:
    """A pool whose server may be stopped."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.answers.set()

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Database]:
        yield self

    async def execute(self, statement: str) -> None:
        await self.answers.wait()

    async def close(self) -> None:
        pass


async def means() -> Means:
    return Means(*[cast(Any, Database())] * 5)


def lane() -> Lane:
    return Lane("g", means)


async def bounded(work: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(work, BOUND_S)


def raises(error: BaseException) -> Callable[[Means], Awaitable[None]]:
    async def work(_: Means) -> None:
        raise error

    return work


async def where(_: Means) -> str:
    return threading.current_thread().name


async def test_a_lane_answers_on_its_thread_and_passes_on_what_is_raised() -> None:
    one = lane()
    assert await bounded(one.do(where, 1.0)) == "lane-g"
    for error in (ValueError("the graph's"), TimeoutError("the graph's"), NotFound("ours")):
        with pytest.raises(type(error), match=str(error)):
            await bounded(one.do(raises(error), 1.0))
    assert one.is_idle
    one.close()


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()]
)
async def test_what_would_end_a_loop_is_an_answer(error: BaseException) -> None:
    one = lane()
    with pytest.raises(Unanswered, match=f"'g' raised {type(error).__name__}"):
        await bounded(one.do(raises(error), 1.0))
    assert await bounded(one.do(where, 1.0)) == "lane-g"
    one.close()


async def test_an_exit_in_a_task_of_the_graphs_own_leaves_the_lane_as_it_was() -> None:
    one = lane()

    async def leave() -> None:
        raise SystemExit

    async def work(_: Means) -> str:
        task = asyncio.ensure_future(leave())
        await asyncio.wait({task})
        return type(task.exception()).__name__

    assert await bounded(one.do(work, 1.0)) == "SystemExit"
    assert await bounded(one.do(where, 1.0)) == "lane-g"
    one.close()


async def test_what_awaits_too_long_is_cancelled_and_the_lane_goes_on() -> None:
    one, ended = lane(), threading.Event()

    async def hang(_: Means) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    with pytest.raises(Unanswered, match=r"'g' did not answer within 0\.05 s.*GREENROOM_INSPECT_S"):
        await bounded(one.do(hang, 0.05))
    assert ended.is_set()
    assert not one.is_stuck
    assert await bounded(one.do(where, 1.0)) == "lane-g"
    one.close()


async def test_what_blocks_or_takes_no_cancellation_gives_its_lane_up() -> None:
    release = threading.Event()

    async def block(_: Means) -> None:
        release.wait()

    async def swallow(_: Means) -> None:
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    lanes = [(lane(), block), (lane(), swallow)]
    for one, work in lanes:
        with pytest.raises(Unanswered, match="did not answer"):
            await bounded(one.do(work, 0.05))
        assert one.is_stuck
        with pytest.raises(Unanswered, match="hangs over an earlier question"):
            await bounded(one.do(where, 1.0))
    release.set()
    for one, _ in lanes:
        one.close()


async def test_a_lane_whose_connections_failed_tries_again() -> None:
    tries = 0

    async def connect() -> Means:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise Unavailable("PostgreSQL does not answer.")
        return await means()

    one = Lane("g", connect)
    with pytest.raises(Unavailable):
        await bounded(one.do(where, 1.0))
    assert await bounded(one.do(where, 1.0)) == "lane-g"
    assert await bounded(one.do(where, 1.0)) == "lane-g"
    assert tries == 2
    one.close()


# --- the inspector --------------------------------------------------------------------------------


class Blocking:
    """A graph that blocks its thread when it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.release = threading.Event()

    def open(self, *args: Any, **kwargs: Any) -> Any:
        self.opened.set()
        self.release.wait()
        raise ValueError("released")


class Ready:
    """A graph whose factory raises at once."""

    def open(self, *args: Any, **kwargs: Any) -> Any:
        raise ValueError("ready")


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def blocking() -> Blocking:
    return Blocking()


MakeInspector = Callable[[Any], Inspector]


@pytest.fixture
def inspector_with(database: Database, blocking: Blocking) -> Iterator[MakeInspector]:
    """Makes an inspector with a function that embeds."""
    setup = InspectorSetup(
        name="inspector-reads-1",
        dsn="",
        config_path=Path("langgraph.json"),
        spec=PoolSpec(graphs=("blocking", "ready")),
        inspect_s=0.2,
        registry_silence_s=3600.0,
    )
    all_made: list[Inspector] = []

    def make(embedding: Any) -> Inspector:
        spec = IndexSpec(dims=2, embed="./e.py:embed", fields=("text",))
        here = Loaded(
            graphs=cast(Any, {"blocking": blocking, "ready": Ready()}),
            pool=cast(Any, database),
            means=means,
            embedder=Embedder(embedding, spec) if embedding is not None else None,
        )
        all_made.append(Inspector(setup, here))
        return all_made[-1]

    yield make
    blocking.release.set()
    for made in all_made:
        made.lanes.close()


@pytest.fixture
def inspector(inspector_with: MakeInspector) -> Inspector:
    return inspector_with(None)


def ask(inspector: Inspector, graph_id: str) -> Awaitable[bytes]:
    return inspector.ask(StateQuestion(graph_id=graph_id, thread_id="t"))


async def test_others_are_answered_while_one_blocks_and_then_the_process_is_to_be_replaced(
    inspector: Inspector,
) -> None:
    alive = asyncio.create_task(inspector.alive())
    blocked = asyncio.create_task(cast(Any, ask(inspector, "blocking")))
    for _ in range(3):
        with pytest.raises(ValueError, match="ready"):
            await bounded(ask(inspector, "ready"))
    assert not blocked.done()
    assert not alive.done()
    with pytest.raises(Unanswered, match="'blocking' did not answer"):
        await bounded(blocked)
    await bounded(alive)
    with pytest.raises(Unavailable):
        await inspector.adopt(1)
    with pytest.raises(ValueError, match="ready"):  # until it is told to leave
        await bounded(ask(inspector, "ready"))


async def test_a_database_that_does_not_answer_is_not_held_against_a_graph(
    inspector: Inspector, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "PROBE_S", 0.05)
    database.answers.clear()
    for kind in (DatabaseUnavailable, Unanswered):
        asked = [ask(inspector, "blocking") for _ in range(3)]
        answers = await bounded(asyncio.gather(*asked, return_exceptions=True))
        assert [type(answer) for answer in answers] == [kind] * 3
        database.answers.set()
        await asyncio.sleep(0)


async def test_who_leaves_answers_first_what_is_under_way(
    inspector: Inspector, blocking: Blocking
) -> None:
    blocked = asyncio.create_task(cast(Any, ask(inspector, "blocking")))
    await until(blocking.opened.is_set)
    leaving = asyncio.create_task(inspector.leave())
    await asyncio.sleep(0)  # until it waits
    with pytest.raises(Replaced):
        await bounded(ask(inspector, "ready"))
    assert not leaving.done()
    with pytest.raises(Unanswered):
        await bounded(blocked)
    await bounded(leaving)


async def test_names_that_nobody_serves_get_no_thread(inspector: Inspector) -> None:
    with pytest.raises(NotFound):
        await bounded(ask(inspector, "none"))
    assert not inspector.lanes.names


async def test_lanes_that_are_idle_make_room(
    inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "MOST_LANES", 1)
    with pytest.raises(ValueError, match="ready"):
        await bounded(ask(inspector, "ready"))
    thread = next(t for t in threading.enumerate() if t.name == "lane-ready")
    blocked = asyncio.create_task(cast(Any, ask(inspector, "blocking")))
    await until(lambda: inspector.lanes.names == ["blocking"])
    await until(lambda: not thread.is_alive())
    with pytest.raises(Unanswered):
        await bounded(blocked)


async def test_a_registry_of_the_past_is_not_obeyed(inspector: Inspector) -> None:
    spec, _, runs = await inspector.adopt(2)
    assert (spec, runs) == (PoolSpec(graphs=("blocking", "ready")), [])
    with pytest.raises(Fenced):
        await inspector.beat(1)
    with pytest.raises(Fenced):
        await inspector.adopt(1)


# --- the embedding of the store -------------------------------------------------------------------


async def test_items_and_queries_are_embedded_in_a_lane_of_their_own(
    inspector_with: MakeInspector,
) -> None:
    threads: list[str] = []

    async def embed(texts: list[str]) -> list[list[float]]:
        threads.append(threading.current_thread().name)
        return [[float(len(text)), 1.0] for text in texts]

    inspector = inspector_with(embed)
    blocked = asyncio.create_task(cast(Any, ask(inspector, "blocking")))
    found = await bounded(inspector.embed_item(b'{"text": "four", "n": 5}', None))
    assert found == [("text", [4.0, 1.0])]
    assert await bounded(inspector.embed_item(b'{"text": "four", "n": 5}', ["n"])) == [
        ("n", [1.0, 1.0])
    ]
    assert await bounded(inspector.embed_query("cat")) == [3.0, 1.0]
    assert set(threads) == {"lane-store.index.embed"}
    with pytest.raises(Unanswered):
        await bounded(blocked)


async def test_an_embedding_that_raises_is_told_and_asked_again(
    inspector_with: MakeInspector,
) -> None:
    def embed(texts: list[str]) -> Any:
        raise SystemExit(3) if texts == ["exit"] else ValueError("no")

    inspector = inspector_with(embed)
    with pytest.raises(Unanswered, match=r"e\.py:embed raised ValueError: no"):
        await bounded(inspector.embed_query("x"))
    with pytest.raises(Unanswered, match="SystemExit"):
        await bounded(inspector.embed_query("exit"))
    with pytest.raises(Unanswered, match="raised ValueError"):
        await bounded(inspector.embed_query("x"))


@pytest.mark.parametrize("waits", [False, True])
async def test_an_embedding_that_does_not_come_back_has_the_process_replaced(
    inspector_with: MakeInspector, waits: bool
) -> None:
    release = threading.Event()

    def block(texts: list[str]) -> list[list[float]]:
        release.wait()
        return [[1.0, 1.0] for _ in texts]

    async def block_the_loop(texts: list[str]) -> list[list[float]]:
        return block(texts)

    inspector = inspector_with(block_the_loop if waits else block)
    alive = asyncio.create_task(inspector.alive())
    with pytest.raises(Unanswered, match="The embedding of the store did not answer within"):
        await bounded(inspector.embed_query("x"))
    await bounded(alive)
    with pytest.raises(ValueError, match="ready"):  # questions about graphs go on meanwhile
        await bounded(ask(inspector, "ready"))
    release.set()


async def test_an_embedding_that_waits_too_long_is_cancelled_and_the_process_stays(
    inspector_with: MakeInspector,
) -> None:
    async def wait(texts: list[str]) -> list[list[float]]:
        await asyncio.sleep(3600)
        return []

    inspector = inspector_with(wait)
    alive = asyncio.create_task(inspector.alive())
    with pytest.raises(Unanswered, match="did not answer within"):
        await bounded(inspector.embed_query("x"))
    await asyncio.sleep(0)
    assert not alive.done()
    alive.cancel()
