"""Graphs whose code hangs, or ends its process, when somebody only asks about them.

Nobody else notices: other graphs' states are read, and runs end, while it goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import httpx
import psutil
import pytest

from actors.inspector.asking import SETTLE_S
from tests.reliability.conftest import INSPECT_S, READS
from tests.reliability.test_run_deaths import begin, thread
from tests.reliability.witness import HANGS_S, Effects, is_warm
from tests.serving import Served
from tests.waiting import until


@pytest.fixture
async def beside() -> AsyncIterator[Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]]:
    """Starts what goes on beside a test; ends what is left of it."""
    tasks: list[asyncio.Task[Any]] = []

    def start(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        tasks.append(asyncio.create_task(work))
        return tasks[-1]

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


Beside = Callable[[Coroutine[Any, Any, Any]], "asyncio.Task[Any]"]


async def finished(http: httpx.AsyncClient, graph: str = "steps") -> str:
    """A thread with a run of a graph that is over."""
    thread_id = await thread(http)
    body = {"assistant_id": graph, "input": {"n": 2} if graph == "steps" else {"how": "not"}}
    (await http.post(f"/threads/{thread_id}/runs/wait", json=body)).raise_for_status()
    return thread_id


async def sleeping(http: httpx.AsyncClient, effects: Effects, graph: str) -> tuple[str, str]:
    """A thread and its run, whose node blocks its process."""
    thread_id = await thread(http)
    heard = effects.heard()
    state = {"how": "sleep", "seconds": 120, "heard": str(heard)}
    body: dict[str, Any] = {"assistant_id": graph, "input": state}
    body |= {"stream_resumable": True, "stream_mode": ["custom"], "durability": "sync"}
    run_id = await begin(http, thread_id, **body)
    path = f"/threads/{thread_id}/runs/{run_id}/stream"
    async with http.stream("GET", path, headers={"last-event-id": "-1"}) as response:
        async for line in response.aiter_lines():
            if "begun" in line:
                heard.touch()
                return thread_id, run_id
    raise AssertionError("the node did not begin")


async def stopped(http: httpx.AsyncClient, run: tuple[str, str], action: str) -> float:
    """Cancels a run that does not listen; returns the seconds until its thread is free."""
    thread_id, run_id = run
    asked_s = time.monotonic()
    path = f"/threads/{thread_id}/runs/{run_id}/cancel"
    (await http.post(path, params={"action": action})).raise_for_status()

    async def is_free() -> bool:
        return (await http.get(f"/threads/{thread_id}")).json()["status"] != "busy"

    await until(is_free, within_s=60)
    return time.monotonic() - asked_s


async def state(http: httpx.AsyncClient, thread_id: str) -> httpx.Response:
    return await http.get(f"/threads/{thread_id}/state")


async def ask_all_the_time(http: httpx.AsyncClient, thread_id: str, longest_s: list[float]) -> None:
    """Reads an innocent graph's state, which must always be answered."""
    while True:
        asked_s = time.monotonic()
        answer = await state(http, thread_id)
        assert answer.status_code == 200, answer.text
        assert answer.json()["values"]["i"] == 2
        longest_s.append(time.monotonic() - asked_s)
        await asyncio.sleep(0.1)


async def test_runs_end_and_others_are_read_while_a_factory_blocks_its_thread(
    http: httpx.AsyncClient, server: Served, beside: Beside, effects: Effects
) -> None:
    innocent, guilty = await finished(http), await finished(http, "blocks_readers")
    own, *runs = [
        await sleeping(http, effects, graph) for graph in ("blocks_readers", "stubborn", "stubborn")
    ]
    blocked = inspectors(server)
    hanging = [beside(state(http, guilty)) for _ in range(3)]
    longest_s: list[float] = []
    reading = beside(ask_all_the_time(http, innocent, longest_s))
    of_own = beside(stopped(http, own, "interrupt"))
    took_s = await asyncio.gather(
        *(
            stopped(http, run, action)
            for run, action in zip(runs, ("rollback", "interrupt"), strict=True)
        )
    )
    # The factory hangs all the while, until its time-out: nobody waited for that.
    assert not any(each.done() for each in hanging), took_s
    rolled_back, interrupted = [(await http.get(f"/threads/{t}")).json() for t, _ in runs]
    assert rolled_back["status"] == "idle"
    assert interrupted["status"] == "interrupted"
    # The run of the graph itself ends with what is known.
    await asyncio.wait_for(of_own, SETTLE_S + HANGS_S)
    for answer in await asyncio.gather(*hanging):
        assert answer.status_code == 503
        assert "'blocks_readers' did not answer" in answer.text
        assert "GREENROOM_INSPECT_S" in answer.text
    # The processes that it blocks go, one for each duty, and nobody notices.
    await until(lambda: not any(each.is_running() for each in blocked), within_s=90)
    assert not reading.done(), reading.exception()
    print(f"stops {took_s}, own {of_own.result():.1f} s, slowest read {max(longest_s):.2f} s")


async def test_a_factory_that_awaits_for_ever_is_cancelled_and_its_process_stays(
    http: httpx.AsyncClient, server: Served
) -> None:
    guilty, other = [
        await finished(http, graph) for graph in ("keeps_readers_waiting", "exits_readers")
    ]
    answer = await state(http, guilty)
    assert answer.status_code == 503
    assert f"'keeps_readers_waiting' did not answer within {INSPECT_S:g} s" in answer.text
    assert (await state(http, other)).status_code == 503
    assert_its_process_stayed(server, "keeps_readers_waiting")


async def test_who_ends_the_process_that_asks_is_refused_and_everybody_else_is_answered(
    http: httpx.AsyncClient, server: Served, beside: Beside, effects: Effects
) -> None:
    innocent, guilty = await finished(http), await finished(http, "kills_readers")
    await is_warm(http)
    own, other = [await sleeping(http, effects, graph) for graph in ("kills_readers", "stubborn")]
    before = inspectors(server)
    seen = set(before)
    longest_s: list[float] = []
    reading = beside(ask_all_the_time(http, innocent, longest_s))
    asked = 0

    async def ask_until_answered() -> httpx.Response:
        """A process that does not start in time is another 503, which says to try again."""
        nonlocal asked
        while True:
            asked += 1
            answer = await state(http, guilty)
            if "Try again" not in answer.text:
                return answer

    asking = beside(ask_until_answered())
    stopping = beside(stopped(http, other, "rollback"))
    # Its settling ends the process that settles, too, beside the other's.
    of_own = beside(stopped(http, own, "rollback"))
    while not (asking.done() and stopping.done() and of_own.done()):
        seen |= inspectors(server)
        await asyncio.sleep(0.05)
    answer = asking.result()
    assert answer.status_code == 503
    assert "Graph 'kills_readers' cannot be asked" in answer.text
    await stopping
    await of_own
    for thread_id, _ in (own, other):
        assert (await http.get(f"/threads/{thread_id}")).json()["status"] == "idle"
    assert not reading.done(), reading.exception()
    # Three for each question and for the run's end, and those who came in their place.
    assert len(seen - before) <= 3 * asked + 3 + 4
    print(f"{len(seen - before)} new, slowest read {max(longest_s):.2f} s, {of_own.result():.1f} s")


async def test_a_factory_that_exits_is_refused_and_its_process_stays(
    http: httpx.AsyncClient, server: Served
) -> None:
    guilty = await finished(http, "exits_readers")
    for _ in range(2):
        answer = await state(http, guilty)
        assert answer.status_code == 503
        assert "'exits_readers' raised SystemExit" in answer.text
        assert_its_process_stayed(server, "exits_readers")


def inspectors(server: Served) -> set[psutil.Process]:
    return {p for title, p in server.actors().items() if title.startswith("Inspector")}


def assert_its_process_stayed(server: Served, graph: str) -> None:
    """The process in which the graph's factory was called last, for a reader, still runs.

    Which process that is differs between two questions: a gateway that was not told yet that an
    inspector of an earlier test is dead asks apart.
    """
    lines = (line.split() for line in (server.data_dir / READS).read_text().splitlines())
    process = [int(process) for name, process in lines if name == graph][-1]
    assert process in {each.pid for each in inspectors(server)}


# --- actors at the end of their lives -------------------------------------------------------------


async def test_what_an_actor_executed_last_is_read_to_its_end(
    http: httpx.AsyncClient, beside: Beside
) -> None:
    """Each actor executes one run: its last, whose reader may be slow."""
    turns = asyncio.Semaphore(4)

    async def wait() -> Any:
        async with turns:
            body = {"assistant_id": "mayfly", "input": {"n": 3, "size": 10}}
            return (await http.post("/runs/wait", json=body, timeout=120)).json()

    async def stream() -> list[int]:
        body = {"assistant_id": "mayfly", "input": {"n": 60, "size": 400_000}}
        body |= {"stream_mode": ["custom"]}
        seen: list[int] = []
        async with turns, http.stream("POST", "/runs/stream", json=body, timeout=120) as response:
            async for line in response.aiter_lines():
                if line.startswith('data: {"i":'):
                    seen.append(int(line.removeprefix('data: {"i":').partition(",")[0]))
        return seen

    waits, streams = (
        [beside(wait()) for _ in range(6)],
        [beside(stream()) for _ in range(2)],
    )
    assert [await each for each in waits] == [{"n": 3, "size": 0}] * 6
    assert [await each for each in streams] == [list(range(60))] * 2
