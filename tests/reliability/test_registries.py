"""More than one registry, or none: only the newest writes, nobody works for ever without one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from greenroom.persistence.embedded import start_embedded
from tests.reliability.conftest import MORTAL
from tests.reliability.test_run_deaths import KEPT, begin, thread
from tests.reliability.witness import (
    Effects,
    Seen,
    is_warm,
    process_of,
    process_titled,
    titled,
    view_into,
)
from tests.serving import Served, serving
from tests.waiting import until

SILENCE_S = 4.0


@asynccontextmanager
async def database_of(server: Served) -> AsyncIterator[psycopg.AsyncConnection]:
    embedded = await asyncio.to_thread(start_embedded, server.data_dir / "pg")
    try:
        async with await psycopg.AsyncConnection.connect(embedded.dsn, autocommit=True) as found:
            yield found
    finally:
        embedded.release()


async def pids_of_registries(database: psycopg.AsyncConnection) -> set[int]:
    cursor = await database.execute(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'greenroom:registry'"
    )
    return {row[0] for row in await cursor.fetchall()}


async def test_an_older_registry_that_wakes_up_writes_nothing_and_goes(
    http: httpx.AsyncClient, effects: Effects, server: Served
) -> None:
    """It is stopped, a newer one takes the epoch, and then it goes on with a create and with the
    end of a run. Who wrote what is told by a trigger."""
    await is_warm(http)
    thread_id = await thread(http)
    seen = Seen()
    body = {"assistant_id": "steps", "input": effects.input(n=20, delay=0.1)}
    body |= {"stream_mode": ["updates"]}
    path = f"/threads/{thread_id}/runs/stream"
    async with database_of(server) as database:
        viewer = asyncio.create_task(view_into(seen, http, "POST", path, json=body))
        await until(lambda: len(seen.steps) >= 3)
        old = process_titled(server, "RegistryActor")
        of_the_old = await pids_of_registries(database)
        await database.execute(
            """
            CREATE TABLE public.writers (pid int);
            CREATE FUNCTION public.sign() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN INSERT INTO public.writers VALUES (pg_backend_pid()); RETURN NULL; END $$;
            CREATE TRIGGER signed AFTER INSERT OR UPDATE OR DELETE ON greenroom.runs
                FOR EACH STATEMENT EXECUTE FUNCTION public.sign()"""
        )
        try:
            old.suspend()
            body = {"assistant_id": "steps", "input": effects.input(n=2)}
            asked = asyncio.create_task(http.post("/runs/wait", json=body))
            await until(lambda: len(seen.steps) == 20)
            cursor = await database.execute(
                "UPDATE greenroom.registry SET epoch = epoch + 1 RETURNING epoch"
            )
            ((newer,),) = await cursor.fetchall()
            old.resume()
            await asyncio.to_thread(psutil.wait_procs, [old], 30)
            async with asyncio.timeout(60):
                assert (await asked).json()["i"] == 2
                await viewer
            assert not old.is_running()
            cursor = await database.execute("SELECT DISTINCT pid FROM public.writers")
            writers = {row[0] for row in await cursor.fetchall()}
            assert writers
            assert not writers & of_the_old
            cursor = await database.execute("SELECT epoch FROM greenroom.registry")
            assert await cursor.fetchall() == [(newer + 1,)]
        finally:
            await database.execute("DROP FUNCTION public.sign() CASCADE")
            await database.execute("DROP TABLE public.writers")
    assert seen.attempts == [1]
    assert effects.of(seen.of("metadata")[0]["run_id"]) == Counter(
        f"step-{i}" for i in range(1, 21)
    )
    assert len(titled(server, "RegistryActor")) == 1


@pytest.mark.slow
async def test_who_hears_from_no_registry_ends_itself_and_its_run_goes_on(
    tmp_path: Path, effects: Effects
) -> None:
    """The registry is stopped, not dead, so nobody starts another one."""
    environment = {
        "GREENROOM_HAPROXY": "false",
        "GREENROOM_REGISTRY_SILENCE_S": str(SILENCE_S),
    }
    with serving(tmp_path / "server", MORTAL, environment=environment) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
            await is_warm(http)
            # As long as it beats, nobody goes, however long nothing else happens.
            before = {actor.pid for actor in titled(server, "RunActor")}
            await asyncio.sleep(1.5 * SILENCE_S)
            assert before <= {actor.pid for actor in titled(server, "RunActor")}
            thread_id = await thread(http)
            state = effects.input(n=120, delay=0.1)
            run_id = await begin(http, thread_id, assistant_id="steps", input=state, **KEPT)
            executing = await process_of(http, run_id)
            await until(lambda: effects.of(run_id).total() >= 3)
            registry = process_titled(server, "RegistryActor")
            registry.suspend()
            try:
                seen = Seen()
                path = f"/threads/{thread_id}/runs/{run_id}/stream"
                viewer = asyncio.create_task(view_into(seen, http, "GET", path, last="-1"))

                await until(lambda: not titled(server, "RunActor"), within_s=SILENCE_S + 20)
                await until(lambda: not executing.is_running())  # its raylet takes its leave of it
            finally:
                registry.resume()
            async with asyncio.timeout(120):
                await viewer
            assert seen.attempts == [1, 2]
            assert seen.steps == list(range(1, 121))
            assert effects.of(run_id).total() <= 121
