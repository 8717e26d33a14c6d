"""Processes are killed at the exact await; nothing is lost, nothing is run or told twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.reliability.stage import Stage
from tests.reliability.witness import Effects, Seen, is_warm, process_of, view_into
from tests.waiting import BOUND_S, until

KEPT = {"stream_resumable": True, "stream_mode": ["updates", "values", "custom"]}


def some(*places: str, slow: str) -> list[Any]:
    """Every place, the last ones in `make chaos` only."""
    return [*places, *(pytest.param(place, marks=pytest.mark.slow) for place in slow.split())]


@pytest.fixture(autouse=True)
def nothing_stays_planned(stage: Stage) -> Iterator[None]:
    """The server is everybody's: what was not reached happens to nobody else."""
    yield
    stage.clear()


async def thread(http: httpx.AsyncClient) -> str:
    return (await http.post("/threads", json={})).json()["thread_id"]


async def stopped(http: httpx.AsyncClient, thread_id: str) -> dict[str, Any]:
    async def resting() -> dict[str, Any] | None:
        found = (await http.get(f"/threads/{thread_id}")).json()
        return found if found["status"] != "busy" else None

    return await until(resting)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("place", some("admitted", "ended", slow="admit start started end"))
async def test_the_registry_dies_and_two_runs_of_a_thread_are_done_once(
    http: httpx.AsyncClient, stage: Stage, effects: Effects, place: str
) -> None:
    """The first run is executed when the second is queued; each passes every place once."""
    await is_warm(http)
    thread_id = await thread(http)
    path = f"/threads/{thread_id}/runs"
    body = {"assistant_id": "steps", "durability": "sync", **KEPT}
    body |= {"multitask_strategy": "enqueue"}
    stage.plan(place, "kill")
    first, second = Seen(), Seen()
    viewers = []
    for seen, length in ((first, 12), (second, 15)):
        todo = {**body, "input": effects.input(n=length, delay=0.05)}
        viewers.append(
            asyncio.create_task(view_into(seen, http, "POST", f"{path}/stream", json=todo))
        )
        await until(lambda seen=seen: len(seen.events) >= 1 or viewers[-1].done() or seen is second)
    await asyncio.wait_for(asyncio.gather(*viewers), BOUND_S)
    assert stage.reached(place)
    # Who was killed between a commit and its order does not know whether the order went out.
    assert [len(first.attempts), len(second.attempts)] == [1, 1]
    assert first.steps == list(range(1, 13))
    assert second.steps == [13, 14, 15]
    for seen in (first, second):
        run_id = seen.of("metadata")[0]["run_id"]
        assert effects.of(run_id) == Counter(f"step-{i}" for i in seen.steps)
        assert (await http.get(f"{path}/{run_id}")).json()["status"] == "success"
    assert (await stopped(http, thread_id))["status"] == "idle"
    assert len((await http.get(path)).json()) == 2


@pytest.mark.parametrize("place", some("requeued", slow="requeue"))
async def test_the_registry_dies_over_the_death_of_a_run(
    http: httpx.AsyncClient, stage: Stage, effects: Effects, place: str
) -> None:
    await is_warm(http)
    thread_id = await thread(http)
    stage.plan(place, "kill")
    seen = Seen()
    state = effects.input(n=8, delay=0.05, die=effects.death("step-4"))
    body = {"assistant_id": "steps", "input": state, "durability": "sync", **KEPT}
    path = f"/threads/{thread_id}/runs/stream"
    await asyncio.wait_for(view_into(seen, http, "POST", path, json=body), BOUND_S)
    assert stage.reached(place)
    assert seen.attempts == [1, 2]
    assert seen.steps == list(range(1, 9))
    run_id = seen.of("metadata")[0]["run_id"]
    assert effects.of(run_id) == Counter({f"step-{i}": 1 + (i == 4) for i in range(1, 9)})


@pytest.mark.parametrize(
    ("action", "place"),
    [
        ("interrupt", "cancel"),
        ("rollback", "rolled_back"),
        *(pytest.param("interrupt", place, marks=pytest.mark.slow) for place in ("end", "ended")),
        *(
            pytest.param("rollback", place, marks=pytest.mark.slow)
            for place in ("cancel", "end", "roll_back", "ended")
        ),
    ],
)
async def test_the_registry_dies_over_a_stop_and_the_run_stops(
    http: httpx.AsyncClient, stage: Stage, effects: Effects, place: str, action: str
) -> None:
    await is_warm(http)
    thread_id = await thread(http)
    path = f"/threads/{thread_id}/runs"
    before = {"assistant_id": "steps", "input": {"n": 2}}
    answer = await http.post(f"{path}/wait", json=before)
    assert answer.json().get("i") == 2, answer.text
    body = {"assistant_id": "steps", "input": effects.input(n=400, delay=0.05)}
    run_id = (await http.post(path, json=body)).json()["run_id"]
    await until(lambda: len(effects.of(run_id)) >= 3)
    stage.plan(place, "kill")
    answer = await http.post(f"{path}/{run_id}/cancel", params={"wait": "true", "action": action})
    assert answer.status_code < 300, answer.text
    await until(lambda: stage.reached(place))
    found = await stopped(http, thread_id)
    count = sum(effects.of(run_id).values())
    run = await http.get(f"{path}/{run_id}")
    if action == "interrupt":
        assert run.json()["status"] == "interrupted"
    else:
        assert run.status_code == 404
        assert found["values"]["i"] == 2
        assert found["status"] == "idle"
        state = (await http.get(f"/threads/{thread_id}/state")).json()
        assert state["values"]["i"] == 2
    after = {"assistant_id": "steps", "input": {"n": 3, "i": 0, "delay": 0.0, "effects": ""}}
    answer = await http.post(f"{path}/wait", json=after)
    assert answer.json().get("i") == 3, answer.text
    assert sum(effects.of(run_id).values()) == count


@pytest.mark.parametrize(
    "place", some("saved", "reported", slow="attempt saving save values report")
)
async def test_a_run_dies_anywhere_and_its_stream_is_whole(
    http: httpx.AsyncClient, stage: Stage, effects: Effects, place: str
) -> None:
    await is_warm(http)
    thread_id = await thread(http)
    stage.plan(place, "kill")
    seen = Seen()
    body = {"assistant_id": "steps", "input": effects.input(n=5), "durability": "sync", **KEPT}
    path = f"/threads/{thread_id}/runs"
    await asyncio.wait_for(view_into(seen, http, "POST", f"{path}/stream", json=body), BOUND_S)
    assert stage.reached(place)
    assert seen.steps == [1, 2, 3, 4, 5]
    assert [v["i"] for v in seen.of("values") if "i" in v] == [1, 2, 3, 4, 5]
    assert seen.numbers == sorted(set(seen.numbers))
    run_id = seen.of("metadata")[0]["run_id"]
    assert (await http.get(f"{path}/{run_id}")).json()["status"] == "success"
    assert effects.of(run_id) == Counter(f"step-{i}" for i in range(1, 6))
    assert (await stopped(http, thread_id))["values"]["i"] == 5


async def test_a_run_dies_twice_once_when_it_resumes(
    http: httpx.AsyncClient, stage: Stage, effects: Effects
) -> None:
    await is_warm(http)
    thread_id = await thread(http)
    stage.plan("resume", "kill")
    seen = Seen()
    state = effects.input(n=5, die=effects.death("step-3"))
    body = {"assistant_id": "steps", "input": state, "durability": "sync", **KEPT}
    path = f"/threads/{thread_id}/runs/stream"
    await asyncio.wait_for(view_into(seen, http, "POST", path, json=body), BOUND_S)
    assert seen.attempts[0] == 1
    assert seen.attempts[-1] == 3
    assert seen.steps == [1, 2, 3, 4, 5]


async def test_an_answer_survives_a_death_before_anything_of_it_was_stored(
    http: httpx.AsyncClient, stage: Stage, effects: Effects
) -> None:
    for place in ("attempt", "save"):
        await is_warm(http)
        path = f"/threads/{await thread(http)}/runs/wait"
        first = {"assistant_id": "asking", "input": effects.input()}
        assert (await http.post(path, json=first)).json()["__interrupt__"]
        stage.plan(place, "kill")
        yes = {"assistant_id": "asking", "command": {"resume": "YES"}, "durability": "sync"}
        second = (await http.post(path, json=yes)).json()
        assert stage.reached(place)
        assert second["log"] == ["start", "delete_one=YES"]
        assert [i["value"] for i in second["__interrupt__"]] == ["delete_all"]


async def test_a_rolled_back_answer_is_gone_although_the_registry_died_over_it(
    http: httpx.AsyncClient, stage: Stage, effects: Effects
) -> None:
    """YES is given, its run is rolled back in mid-step; then NO is what counts."""
    await is_warm(http)
    thread_id = await thread(http)
    path = f"/threads/{thread_id}/runs"
    first = {"assistant_id": "asking", "input": effects.input()}
    assert (await http.post(f"{path}/wait", json=first)).json()["__interrupt__"]
    stage.plan("saved", "block")
    yes = {"assistant_id": "asking", "command": {"resume": "YES"}, "durability": "sync"}
    run_id = (await http.post(path, json=yes)).json()["run_id"]
    await until(lambda: stage.reached("saved"))
    stage.plan("roll_back", "kill")
    params = {"wait": "true", "action": "rollback"}
    await http.post(f"{path}/{run_id}/cancel", params=params)
    found = await stopped(http, thread_id)
    assert found["status"] == "interrupted"
    no = {"assistant_id": "asking", "command": {"resume": "NO"}}
    second = (await http.post(f"{path}/wait", json=no)).json()
    assert second["log"] == ["start", "delete_one=NO"]


async def test_who_is_stopped_over_a_write_is_replaced_when_it_is_killed(
    http: httpx.AsyncClient, stage: Stage, effects: Effects
) -> None:
    """A writer stops with a checkpoint that is not sent; its run goes on elsewhere."""
    await is_warm(http)
    thread_id = await thread(http)
    stage.plan("save", "block")
    seen = Seen()
    body = {"assistant_id": "steps", "input": effects.input(n=5), "durability": "sync", **KEPT}
    path = f"/threads/{thread_id}/runs/stream"
    viewer = asyncio.create_task(view_into(seen, http, "POST", path, json=body))
    await until(lambda: stage.reached("save"))
    run_id = (await until(lambda: seen.of("metadata")))[0]["run_id"]
    (await process_of(http, run_id)).kill()
    await asyncio.wait_for(viewer, BOUND_S)
    assert seen.attempts == [1, 2]
    assert seen.steps == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("action", ["kill", "raise"])
async def test_a_stateless_answer_survives_the_registry_that_dies_over_the_end(
    http: httpx.AsyncClient, stage: Stage, effects: Effects, action: str
) -> None:
    """It was committed, and nobody has heard: neither the actor nor whoever waits."""
    await is_warm(http)
    stage.plan("ended", action)
    body = {"assistant_id": "steps", "input": effects.input(n=3), "durability": "sync"}
    answer = await http.post("/runs/wait", json=body)
    assert stage.reached("ended")
    assert answer.json().get("i") == 3, answer.text
    again = await http.post("/runs/wait", json=body)
    assert again.json().get("i") == 3, again.text


@pytest.mark.parametrize("registry_dies", [False, True])
@pytest.mark.parametrize("how", ["wait", "stream"])
async def test_a_stateless_answer_survives_the_actor_that_dies_over_the_end(
    http: httpx.AsyncClient, stage: Stage, effects: Effects, how: str, registry_dies: bool
) -> None:
    """The end is stored, and whoever had the output is gone before it was read."""
    await is_warm(http)
    stage.plan("reported", "kill")
    if registry_dies:
        stage.also("ended", "kill")
    body = {"assistant_id": "steps", "input": effects.input(n=3), "durability": "sync"}
    body |= {"stream_mode": ["values"]}
    if how == "wait":
        answer = await http.post("/runs/wait", json=body)
        said = [answer.json()]
    else:
        seen = Seen()
        await asyncio.wait_for(view_into(seen, http, "POST", "/runs/stream", json=body), BOUND_S)
        said = seen.of("values")
        assert not seen.of("error")
    assert stage.reached("reported")
    assert said[-1].get("i") == 3, said
    assert sorted(effects.path.read_text().split()[1::3]) == ["step-1", "step-2", "step-3"]


@pytest.mark.parametrize("kept", [False, True])
async def test_a_failing_stateless_stream_tells_its_error_although_the_registry_died_over_it(
    http: httpx.AsyncClient, stage: Stage, kept: bool
) -> None:
    await is_warm(http)
    stage.plan("ended", "kill")
    seen = Seen()
    # No such key in the state: the graph fails in its first node.
    body = {"assistant_id": "steps", "input": {"n": "no number"}, "stream_resumable": kept}
    await asyncio.wait_for(view_into(seen, http, "POST", "/runs/stream", json=body), BOUND_S)
    assert stage.reached("ended")
    assert [name for _, name, _ in seen.events][-1] == "error"
    assert len(seen.of("error")) == 1


async def test_twelve_runs_of_one_actor_end_although_one_end_fails(
    http: httpx.AsyncClient, stage: Stage, effects: Effects
) -> None:
    """Their reports travel in one call, and the registry ends over one of them."""
    threads = [await thread(http) for _ in range(12)]
    stage.plan("end", "raise")
    state = effects.input(n=4, delay=0.1)
    body = {"assistant_id": "crowd", "input": state, "durability": "sync", **KEPT}
    viewers = [Seen() for _ in threads]
    paths = [f"/threads/{thread_id}/runs" for thread_id in threads]
    async with asyncio.timeout(BOUND_S):
        await asyncio.gather(
            *(
                view_into(seen, http, "POST", f"{path}/stream", json=body)
                for seen, path in zip(viewers, paths, strict=True)
            )
        )
    assert stage.reached("end")
    for seen, path in zip(viewers, paths, strict=True):
        assert seen.steps == [1, 2, 3, 4]
        run_id = seen.of("metadata")[0]["run_id"]
        assert (await http.get(f"{path}/{run_id}")).json()["status"] == "success"
    for thread_id in threads:
        assert (await stopped(http, thread_id))["status"] == "idle"
        assert (await http.delete(f"/threads/{thread_id}")).is_success


@pytest.mark.parametrize("strategy", ["enqueue", "interrupt"])
async def test_a_run_that_waits_starts_although_the_end_before_it_fails(
    http: httpx.AsyncClient, stage: Stage, effects: Effects, strategy: str
) -> None:
    await is_warm(http)
    thread_id = await thread(http)
    path = f"/threads/{thread_id}/runs"
    body = {"assistant_id": "steps", "input": effects.input(n=60, delay=0.05)}
    first = (await http.post(path, json=body)).json()["run_id"]
    await until(lambda: len(effects.of(first)) >= 2)
    stage.plan("end", "raise")
    after = {"assistant_id": "steps", "input": {"n": 2, "i": 0}, "multitask_strategy": strategy}
    answer = await http.post(f"{path}/wait", json=after)
    assert stage.reached("end")
    assert answer.json().get("i") == 2, answer.text
    assert (await http.delete(f"/threads/{thread_id}")).is_success
