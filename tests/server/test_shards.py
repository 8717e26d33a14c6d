"""Four registries that share the threads of one real server, which encrypts its state."""

from __future__ import annotations

import asyncio
import base64
import functools
import itertools
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import httpx
import psutil
import psycopg
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError, NotFoundError

from actors.calls.names import shard_of
from greenroom.core.sharding import Shard, hash_slot_of_run, hash_slot_of_thread
from greenroom.persistence.embedded import start_embedded
from tests.server.test_deaths import process_of
from tests.server.test_metrics import samples
from tests.serving import Served, serving
from tests.waiting import BOUND_S, until

SHARDS = 4
SLOW = {"steps": 20, "delay": 0.1}
LONG = {"steps": 600, "delay": 0.1}
"""Does not end before it is cancelled, however long others take to ask."""
KEYS = "test:" + base64.b64encode(b"k" * 32).decode()
SECRET = "s3cret-of-a-client"
"""What is given to the server everywhere, and must be nowhere in its database."""


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    # Without HAProxy it starts sooner; both gateways answer.
    environment = {
        "GREENROOM_REGISTRY_SHARDS": str(SHARDS),
        "GREENROOM_HAPROXY": "false",
        "GREENROOM_ENCRYPTION_KEYS": KEYS,
    }
    with serving(tmp_path_factory.mktemp("sharded"), environment=environment) as served:
        yield served


@pytest.fixture
async def client(sharded: Served) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=sharded.url) as client:
        yield client


@pytest.fixture
async def http(sharded: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=sharded.url, timeout=60) as http:
        yield http


def registries(server: Served) -> list[psutil.Process]:
    return [p for name, p in server.actors().items() if name.startswith("RegistryActor")]


async def threads(client: LangGraphClient, each: int = 1) -> list[str]:
    """New threads, as many of each shard, the shards in turn."""
    made = []
    for number in itertools.islice(itertools.cycle(range(SHARDS)), each * SHARDS):
        ids = (str(uuid.uuid4()) for _ in itertools.count())
        made.append(next(id_ for id_ in ids if Shard(number, SHARDS).has(id_)))
    await asyncio.gather(*(client.threads.create(thread_id=thread_id) for thread_id in made))
    return made


async def until_running(client: LangGraphClient, runs: list[Any]) -> None:
    async with asyncio.timeout(BOUND_S):
        for run in runs:
            async for _ in client.runs.join_stream(run["thread_id"], run["run_id"]):
                break


async def test_runs_of_many_threads_end_and_each_registry_has_some(
    client: LangGraphClient, http: httpx.AsyncClient, sharded: Served
) -> None:
    assert len(registries(sharded)) == SHARDS
    before = await samples(http)
    many = await threads(client, each=10)
    outputs = await asyncio.gather(
        *(client.runs.wait(thread_id, "counter", input={"count": 0}) for thread_id in many)
    )
    assert [output["count"] for output in outputs] == [3] * len(many)
    # The metrics are of all registries together, and so is what they say of the moment.
    counted = await samples(http)
    name = ("greenroom_runs_total", "counter", "success")
    assert counted[name] - before.get(name, 0) == len(many)
    recent = (await http.get("/info")).json()["counts"]["recent"]
    makers = {each["run_id"]: shard_of(each["actor"]) for each in recent}
    assert set(makers.values()) == set(range(SHARDS))
    for thread_id in many:
        (run,) = await client.runs.list(thread_id)
        assert run["status"] == "success"
        assert hash_slot_of_run(run["run_id"]) == hash_slot_of_thread(thread_id)
        assert makers.get(run["run_id"], shard(thread_id)) == shard(thread_id)
        assert (await client.threads.get(thread_id))["status"] == "idle"


def shard(thread_id: str) -> int:
    return hash_slot_of_thread(thread_id) % SHARDS


async def test_each_registry_fires_the_crons_of_its_threads(client: LangGraphClient) -> None:
    many = await threads(client)
    crons: list[Any] = [
        await client.crons.create_for_thread(
            thread_id, "counter", schedule="* * * * * *", input={"count": 0}
        )
        for thread_id in many
    ]
    for thread_id in many:
        runs = await until(functools.partial(client.runs.list, thread_id))
        assert hash_slot_of_run(runs[0]["run_id"]) == hash_slot_of_thread(thread_id)
    for cron in crons:
        assert not (await client.crons.update(cron["cron_id"], enabled=False))["enabled"]
        await client.crons.delete(cron["cron_id"])
    assert await client.crons.count() == 0


async def test_of_many_that_may_not_wait_one_is_admitted(client: LangGraphClient) -> None:
    async def ask(thread_id: str) -> int:
        try:
            await client.runs.create(thread_id, "slow", input=LONG, multitask_strategy="reject")
        except ConflictError:
            return 0
        return 1

    for_each = await threads(client)
    asked = [ask(thread_id) for thread_id in for_each for _ in range(8)]
    admitted = await asyncio.gather(*asked)
    assert [sum(admitted[n * 8 : n * 8 + 8]) for n in range(SHARDS)] == [1] * SHARDS
    for thread_id in for_each:
        (run,) = await client.runs.list(thread_id)
        await client.runs.cancel(thread_id, run["run_id"], wait=True)


async def test_enqueued_runs_start_in_order_on_each_thread(client: LangGraphClient) -> None:
    async def enqueue(thread_id: str) -> list[str]:
        runs = [
            await client.runs.create(
                thread_id,
                "slow",
                input={"steps": 2, "delay": 0.02, "tag": tag},
                multitask_strategy="enqueue",
            )
            for tag in "abc"
        ]
        await asyncio.gather(*(client.runs.join(thread_id, run["run_id"]) for run in runs))
        return (await client.threads.get_state(thread_id))["values"]["trail"]

    found = await asyncio.gather(*map(enqueue, await threads(client)))
    assert found == [["a1", "a2", "b1", "b2", "c1", "c2"]] * SHARDS


async def test_a_stream_is_joined_by_the_runs_id_alone(
    client: LangGraphClient, http: httpx.AsyncClient
) -> None:
    for thread_id in await threads(client):
        run = await client.runs.create(
            thread_id, "counter", input={"count": 0}, stream_mode="updates", stream_resumable=True
        )
        path = f"/runs/{run['run_id']}/stream"
        answer = await http.get(path, headers={"last-event-id": "-1"})
        assert answer.text.count("event: updates") == 3


async def test_state_is_changed_copied_and_deleted_on_every_shard(client: LangGraphClient) -> None:
    for thread_id in await threads(client):
        await client.runs.wait(thread_id, "counter", input={"count": 1})
        await client.threads.update_state(thread_id, {"count": 40})
        copy = await client.threads.copy(thread_id)
        again = await client.runs.wait(copy["thread_id"], "counter", input={})
        assert again["count"] == 43
        await client.threads.delete(thread_id)
        with pytest.raises(NotFoundError):
            await client.threads.get(thread_id)


async def test_a_registry_that_is_killed_is_not_noticed_by_any_stream(
    client: LangGraphClient, sharded: Served
) -> None:
    """Each of its threads is taken up again by the one that follows; the others never stop."""
    begun = [asyncio.Event() for _ in range(SHARDS)]

    async def view(thread_id: str, started: asyncio.Event) -> list[Any]:
        parts = []
        stream = client.runs.stream(thread_id, "slow", input=SLOW, stream_mode="updates")
        async with aclosing(stream):  # type: ignore[type-var]
            async for part in stream:
                parts.append(part)
                if len(parts) == 5:
                    started.set()
        return parts

    viewed = await threads(client)
    queued = await threads(client)
    views = [asyncio.create_task(view(*each)) for each in zip(viewed, begun, strict=True)]
    async with asyncio.timeout(BOUND_S):
        await asyncio.gather(*(event.wait() for event in begun))
    killed = registries(sharded)[-1]
    killed.kill()
    async with asyncio.timeout(BOUND_S):
        outputs = await asyncio.gather(
            *(client.runs.wait(thread_id, "counter", input={"count": 0}) for thread_id in queued)
        )
        found = await asyncio.gather(*views)
    assert [output["count"] for output in outputs] == [3] * SHARDS
    for parts in found:
        assert [p.data["attempt"] for p in parts if p.event == "metadata"] == [1]
        assert len([p for p in parts if "step" in p.data]) == SLOW["steps"]
    for thread_id in viewed:
        (run,) = await client.runs.list(thread_id)
        assert run["status"] == "success"
    now = registries(sharded)
    assert len(now) == SHARDS
    assert killed.pid not in {process.pid for process in now}


async def test_all_runs_of_all_registries_are_cancelled_at_once(
    client: LangGraphClient, http: httpx.AsyncClient
) -> None:
    runs = [
        await client.runs.create(thread_id, "slow", input={"steps": 1000, "delay": 0.05})
        for thread_id in await threads(client)
    ]
    await until_running(client, runs)
    answer = await http.post("/runs/cancel", json={"status": "running"})
    assert answer.status_code == 204
    async with asyncio.timeout(BOUND_S):
        for run in runs:
            await client.runs.join(run["thread_id"], run["run_id"])
            found = await client.runs.get(run["thread_id"], run["run_id"])
            assert found["status"] == "interrupted"


async def test_a_server_does_not_take_orders_to_call_its_own_network(
    http: httpx.AsyncClient,
) -> None:
    """Here, because the server of the folder's other tests is allowed to."""
    body = {"assistant_id": "counter", "input": {"count": 0}, "webhook": "http://127.0.0.1/x"}
    answer = await http.post("/runs", json=body)
    sentence = "Webhook host blocked: loopback IP range"
    assert (answer.status_code, answer.json()) == (422, {"detail": sentence})


# --- encrypted ------------------------------------------------------------------------------------


async def tables_with(server: Served, text: str) -> list[str]:
    """The tables of the server's database that have a text somewhere, also as bytes."""
    found = []
    embedded = await asyncio.to_thread(start_embedded, server.data_dir / "pg")
    try:
        async with await psycopg.AsyncConnection.connect(embedded.dsn) as database:
            tables = await database.execute(
                "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
                " WHERE schemaname IN ('public', 'greenroom')"
            )
            for (table,) in await tables.fetchall():
                held = await database.execute(
                    f"SELECT count(*) FROM {table} AS t WHERE t::text ~ %s",  # type: ignore[arg-type]
                    (f"{text}|{text.encode().hex()}",),
                )
                (count,) = await held.fetchone()  # type: ignore[misc]
                found += [table] * bool(count)
    finally:
        embedded.release()
    return found


async def test_what_clients_give_and_graphs_say_is_nowhere_in_the_database(
    client: LangGraphClient, http: httpx.AsyncClient, sharded: Served
) -> None:
    messages = {"messages": [{"role": "user", "content": SECRET}], "n_tokens": 2}
    thread_id, asking, *_ = await threads(client)
    run = await client.runs.create(
        thread_id,
        "agent",
        input=messages,
        config={"configurable": {"token": SECRET}},
        metadata={"about": "metadata is searched"},
        stream_mode=["values", "custom"],
        stream_resumable=True,
        durability="sync",
    )
    values = await client.runs.join(thread_id, run["run_id"])
    await client.runs.wait(asking, "approval", input={"question": SECRET})
    more = {"messages": [{"role": "user", "content": SECRET}]}
    await client.threads.update_state(thread_id, more)
    copy = await client.threads.copy(thread_id)
    failing = await client.threads.create()
    await client.runs.wait(failing["thread_id"], "fails", input={"x": 5}, raise_error=False)
    cron = await client.crons.create(
        "counter", schedule="0 0 1 1 *", input={"log": [SECRET]}, context={"key": SECRET}
    )
    await client.store.put_item(["drawer"], "k", {"note": SECRET})
    assert await tables_with(sharded, "metadata is searched")
    assert await tables_with(sharded, SECRET) == []
    assert await tables_with(sharded, "boom: x=6") == []

    # Everybody who may read it finds it.
    assert SECRET in str(values)
    assert SECRET in str((await client.threads.get(thread_id))["values"])
    assert SECRET in str(await client.threads.get_state(copy["thread_id"]))
    assert SECRET in str(await client.threads.get_history(thread_id))
    failed = await http.get(f"/threads/{failing['thread_id']}")
    assert failed.json()["error"] == {"error": "ValueError", "message": "boom: x=6"}
    (waiting,) = (await client.threads.get(asking))["interrupts"].values()
    assert waiting[0]["value"] == {"question": SECRET}
    assert (await client.runs.wait(asking, "approval", command={"resume": SECRET}))["done"]
    (shown,) = await client.runs.list(thread_id)
    assert shown["kwargs"]["input"] == messages
    assert shown["kwargs"]["config"]["configurable"]["token"] == SECRET
    (found,) = await client.crons.search(assistant_id=cron["assistant_id"])
    assert found["payload"]["input"] == {"log": [SECRET]}
    assert found["payload"]["context"] == {"key": SECRET}
    item = await client.store.get_item(["drawer"], "k")
    assert item["value"] == {"note": SECRET}
    (item,) = (await client.store.search_items(["drawer"]))["items"]
    assert item["value"] == {"note": SECRET}
    assert await tables_with(sharded, SECRET) == []

    # What cannot be searched is refused, and what can be is found.
    refused = await http.post("/threads/search", json={"values": {"n_tokens": 2}})
    assert (refused.status_code, "encrypted" in refused.json()["detail"]) == (422, True)
    refused = await http.post("/threads/count", json={"values": {"n_tokens": 2}})
    assert refused.status_code == 422
    refused = await http.post(
        "/store/items/search", json={"namespace_prefix": [], "filter": {"note": SECRET}}
    )
    assert (refused.status_code, "encrypted" in refused.json()["detail"]) == (422, True)
    assert len(await client.threads.search(metadata={"graph_id": "approval"})) == 1
    await client.crons.delete(cron["cron_id"])
    await client.store.delete_item(["drawer"], "k")


async def test_an_encrypted_run_goes_on_where_its_process_died(
    client: LangGraphClient, http: httpx.AsyncClient, sharded: Served
) -> None:
    """Its input, its checkpoints and its events are read by another process."""
    (thread_id, *_) = await threads(client)
    run = await client.runs.create(
        thread_id,
        "slow",
        input={**SLOW, "tag": SECRET},
        stream_mode=["values"],
        stream_resumable=True,
        durability="sync",
    )
    parts: list[Any] = []
    killed = False
    stream = client.runs.join_stream(thread_id, run["run_id"], last_event_id="-1")
    async for part in stream:
        parts.append(part)
        if not killed and part.event == "values" and part.data.get("i", 0) >= 3:
            killed = True
            (await process_of(http, run["run_id"])).kill()
    assert [p.data["attempt"] for p in parts if p.event == "metadata"] == [1, 2]
    steps = [p.data["i"] for p in parts if p.event == "values" and "i" in p.data]
    assert [*dict.fromkeys(steps)] == [*range(SLOW["steps"] + 1)]
    assert parts[-1].data["trail"] == [f"{SECRET}{n + 1}" for n in range(SLOW["steps"])]
    assert await tables_with(sharded, SECRET) == []
