"""The registry, a gateway, PostgreSQL and the whole server die; clients come back to what was."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from greenroom.persistence.embedded import start_embedded
from tests.reliability.conftest import MORTAL
from tests.reliability.test_event_streams import started, told_as
from tests.reliability.test_run_deaths import KEPT, begin, thread
from tests.reliability.witness import (
    Effects,
    Seen,
    is_warm,
    kill_gateways,
    process_titled,
    view,
    view_into,
)
from tests.serving import Served, free_port, serving
from tests.waiting import until


async def test_streams_do_not_notice_that_the_registry_dies_and_requests_wait(
    http: httpx.AsyncClient, effects: Effects, server: Served
) -> None:
    await is_warm(http)
    thread_id = await thread(http)
    seen = Seen()
    body = {"assistant_id": "steps", "input": effects.input(n=20, delay=0.1)}
    body |= {"stream_mode": ["updates"]}
    path = f"/threads/{thread_id}/runs/stream"
    viewer = asyncio.create_task(view_into(seen, http, "POST", path, json=body))
    await until(lambda: len(seen.steps) >= 3)
    process_titled(server, "RegistryActor").kill()
    seen_before = len(seen.steps)
    other = await http.post("/runs/wait", json={"assistant_id": "steps", "input": {"n": 2}})
    assert other.json()["i"] == 2
    # Meanwhile there was no registry, and the stream went on.
    assert len(seen.steps) > seen_before
    await asyncio.wait_for(viewer, 60)
    assert seen.attempts == [1]
    assert seen.steps == list(range(1, 21))


@pytest.mark.parametrize("victim", ["gateway", "controller"])
async def test_who_reconnects_after_the_death_of_the_edge_misses_nothing(
    http: httpx.AsyncClient, effects: Effects, server: Served, victim: str
) -> None:
    await is_warm(http)
    thread_id = await thread(http)
    state = effects.input(n=40, delay=0.1)
    run_id = await begin(http, thread_id, assistant_id="steps", input=state, **KEPT)
    path = f"/threads/{thread_id}/runs/{run_id}/stream"
    seen, last, broken = Seen(), "-1", 0
    killed = False
    while True:
        part = Seen()
        reading = asyncio.create_task(view_into(part, http, "GET", path, last=last))
        while not killed and not reading.done():
            await asyncio.sleep(0.02)
            if len(part.steps) >= 3:
                if victim == "gateway":
                    kill_gateways(server)
                else:
                    process_titled(server, "ServeController").kill()
                killed = True
        try:
            await reading
            done = True
        except (httpx.TransportError, httpx.HTTPStatusError):
            done, broken = False, broken + 1
            await asyncio.sleep(0.1)
        seen.events += part.events
        last = next((i for i, _, _ in reversed(part.events) if i), last)
        if done:
            break
    assert bool(broken) == (victim == "gateway")
    assert seen.steps == list(range(1, 41))
    assert seen.attempts == [1]
    assert seen.numbers == sorted(set(seen.numbers))
    assert effects.of(run_id) == Counter(f"step-{i}" for i in range(1, 41))

    async def answers() -> bool:
        try:
            return (await http.get("/ok")).is_success
        except httpx.TransportError:
            return False

    await until(answers)


async def test_writes_wait_while_postgresql_restarts_and_go_on(
    http: httpx.AsyncClient, effects: Effects, server: Served
) -> None:
    await is_warm(http)
    thread_id = await thread(http)
    seen = Seen()
    body = {"assistant_id": "steps", "input": effects.input(n=30, delay=0.1), **KEPT}
    path = f"/threads/{thread_id}/runs/stream"
    viewer = asyncio.create_task(view_into(seen, http, "POST", path, json=body))
    await until(lambda: len(seen.steps) >= 3)
    directory = server.data_dir / "pg"
    database = await asyncio.to_thread(start_embedded, directory)
    await asyncio.to_thread(database.stop)
    database = await asyncio.to_thread(start_embedded, directory)
    try:
        await asyncio.wait_for(viewer, 60)
    finally:
        database.release()
    assert seen.steps == list(range(1, 31))
    assert seen.attempts == [1]
    assert effects.of(seen.of("metadata")[0]["run_id"]).total() == 30
    assert (await http.get(f"/threads/{thread_id}")).json()["status"] == "idle"


@pytest.mark.slow
async def test_a_whole_server_is_killed_in_the_middle_of_fifty_runs_and_started_again(
    tmp_path: Path, effects: Effects
) -> None:
    port = free_port()
    environment = {"GREENROOM_HAPROXY": "false"}
    runs: list[tuple[str, str]] = []
    body = {"assistant_id": "steps", "durability": "sync", **KEPT}
    body |= {"input": effects.input(n=8, delay=0.1)}
    with serving(tmp_path / "server", MORTAL, environment=environment, port=port) as first:
        async with httpx.AsyncClient(base_url=first.url, timeout=60) as http:
            for _ in range(50):
                thread_id = await thread(http)
                runs.append((thread_id, await begin(http, thread_id, **body)))
            await until(lambda: sum(map(bool, (effects.of(run) for _, run in runs))) >= 12)
        left = first.descendants()
        first.process.kill()
        await asyncio.to_thread(psutil.wait_procs, left, 30)
    with serving(tmp_path / "server", MORTAL, environment=environment, port=port) as second:
        async with httpx.AsyncClient(base_url=second.url, timeout=120) as http:
            for thread_id, run_id in runs:
                path = f"/threads/{thread_id}/runs/{run_id}"
                seen = await view(http, "GET", f"{path}/stream", last="-1")
                assert seen.steps == list(range(1, 9))
                assert (await http.get(path)).json()["status"] == "success"
                assert (await http.get(f"/threads/{thread_id}")).json()["status"] == "idle"
                done = effects.of(run_id)
                assert set(done) == {f"step-{i}" for i in range(1, 9)}
                assert done.total() <= 9


@pytest.mark.slow
async def test_sigterm_loses_nothing(tmp_path: Path, effects: Effects) -> None:
    port = free_port()
    environment = {"GREENROOM_HAPROXY": "false"}
    body = {"assistant_id": "steps", "durability": "sync", **KEPT}
    body |= {"input": effects.input(n=40, delay=0.1)}
    with serving(tmp_path / "server", MORTAL, environment=environment, port=port) as first:
        async with httpx.AsyncClient(base_url=first.url, timeout=60) as http:
            thread_id = await thread(http)
            run_id = await begin(http, thread_id, **body)
            logged = await started(http, "steps", {"n": 40, "delay": 0.1})
            await until(lambda: effects.of(run_id).total() >= 5)
    with serving(tmp_path / "server", MORTAL, environment=environment, port=port) as second:
        async with httpx.AsyncClient(base_url=second.url, timeout=120) as http:
            path = f"/threads/{thread_id}/runs/{run_id}"
            seen = await view(http, "GET", f"{path}/stream", last="-1")
            assert seen.steps == list(range(1, 41))
            assert seen.attempts == [1, 2]
            await told_as(http, logged, "completed")
    assert effects.of(run_id) == Counter(f"step-{i}" for i in range(1, 41))


async def test_who_holds_every_connection_of_the_database_only_delays(
    http: httpx.AsyncClient, effects: Effects, server: Served
) -> None:
    await is_warm(http)
    database = await asyncio.to_thread(start_embedded, server.data_dir / "pg")
    thread_id = await thread(http)
    state = effects.input(n=10, delay=0.1)
    waiting = asyncio.create_task(
        http.post(
            f"/threads/{thread_id}/runs/wait",
            json={"assistant_id": "steps", "input": state, "durability": "sync"},
        )
    )
    held: list[psycopg.AsyncConnection] = []
    try:
        while len(held) < 400:
            held.append(await psycopg.AsyncConnection.connect(database.dsn))
    except psycopg.OperationalError:
        pass
    await asyncio.sleep(0.5)
    for connection in held:
        await connection.close()
    database.release()
    assert (await asyncio.wait_for(waiting, 60)).json()["i"] == 10
