"""Two users of a real server: what SQL, registries and run actors make of their scopes.

`tests/http/test_users.py` walks all routes; here is what a double cannot show.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import APIStatusError

from tests.serving import Served
from tests.waiting import until

BOUND_S = 30.0


def sdk(server: Served, who: str, mount: str = "") -> LangGraphClient:
    headers = {"authorization": f"Bearer tok-{who}"}
    return get_client(url=server.url + mount, headers=headers)


@pytest.fixture(params=["", "/api"], ids=["root", "api"])
async def alice(users: Served, request: pytest.FixtureRequest) -> AsyncIterator[LangGraphClient]:
    async with sdk(users, "alice", request.param) as client:
        yield client


@pytest.fixture
async def bob(users: Served) -> AsyncIterator[LangGraphClient]:
    async with sdk(users, "bob") as client:
        yield client


async def refused(asked: Any, status: int = 404) -> str:
    # The SDK raises the second one for routes that it waits at.
    with pytest.raises((APIStatusError, httpx.HTTPStatusError)) as error:
        await asked
    assert error.value.response.status_code == status, error.value
    return str(error.value)


async def test_who_has_no_credentials_is_let_in_nowhere(users: Served) -> None:
    async with httpx.AsyncClient(base_url=users.url) as http:
        for method, path in (("POST", "/threads"), ("GET", "/nope"), ("GET", "/metrics")):
            answer = await http.request(method, path)
            assert (answer.status_code, answer.json()) == (401, {"detail": "Invalid token"})
            assert answer.headers["www-authenticate"] == "Bearer"
        for path in ("/", "/ok", "/ok?check_db=true", "/info", "/openapi.json", "/docs"):
            assert (await http.get(path)).status_code == 200
        info = (await http.get("/info")).json()
        assert (info["counts"], info["flags"]["auth"]) == (None, True)
        assert (await http.get("/openapi.json")).json()["security"] == [{"key": []}]
        cors = await http.get("/threads/x", headers={"origin": "http://localhost:3000"})
        assert cors.status_code == 401
        assert "access-control-allow-origin" in cors.headers


async def test_the_transcript_of_two_users(alice: LangGraphClient, bob: LangGraphClient) -> None:
    """What the reference answers to two users under the same handlers, where it is right."""
    thread = await alice.threads.create(metadata={"a": 1, "owner": "bob"})
    its_id = thread["thread_id"]
    assert thread["metadata"] == {"a": 1, "owner": "alice"}
    assert f"Thread with ID {its_id} not found" in await refused(bob.threads.get(its_id))
    found = await bob.threads.search(metadata={"owner": "alice"}, limit=1000)
    assert its_id not in [each["thread_id"] for each in found]
    again = bob.threads.create(thread_id=its_id, if_exists="do_nothing")
    assert "already exists" in await refused(again, 409)
    changed = await alice.threads.update(its_id, metadata={"p": 1, "owner": "bob"})
    assert changed["metadata"] == {"a": 1, "owner": "alice", "p": 1}
    for wanted in ("raise", "create"):
        said = await refused(
            bob.runs.create(
                its_id, "whoami", if_not_exists="create" if wanted == "create" else None
            )
        )
        assert "Thread or assistant not found." in said
    values: Any = await alice.runs.wait(its_id, "whoami", input={})
    assert values["seen"]["identity"] == "alice"
    (run,) = await alice.runs.list(its_id)
    assert run["metadata"]["owner"] == "alice"
    assert "tok-" not in str(run)
    await refused(bob.runs.get(its_id, run["run_id"]))
    await refused(bob.runs.list(its_id))
    await refused(bob.runs.delete(its_id, run["run_id"]))
    await refused(bob.threads.delete(its_id))
    await refused(bob.threads.get_state(its_id))
    await refused(bob.threads.get_history(its_id))
    await refused(bob.threads.update_state(its_id, {"seen": {}}))
    await refused(bob.threads.copy(its_id), 409)
    state = await alice.threads.get_state(its_id)
    assert state["values"]["seen"]["identity"] == "alice"
    assert "langgraph_auth_user_id" not in str(state["metadata"])
    assert (await alice.threads.copy(its_id))["metadata"]["owner"] == "alice"  # type: ignore[index]
    assert await bob.assistants.search() == []
    mine = await alice.assistants.create("whoami", name="alice's")
    assert mine["metadata"]["owner"] == "alice"
    await refused(bob.runs.wait(None, mine["assistant_id"], input={}))
    await refused(bob.assistants.get_schemas(mine["assistant_id"]))
    await refused(bob.assistants.delete(mine["assistant_id"]))
    kept: Any = await bob.runs.create(None, "whoami", input={}, on_completion="keep")
    found = await until(lambda: bob.threads.search(ids=[kept["thread_id"]]))
    assert found[0]["metadata"]["owner"] == "bob"
    await alice.store.put_item(["docs"], "k", {"x": 1})
    item = await alice.store.get_item(["docs"], "k")
    assert item["namespace"] == ["alice", "docs"]
    assert await bob.store.get_item(["alice", "docs"], "k") is None
    assert (await bob.store.list_namespaces())["namespaces"] == []


async def test_a_busy_thread_of_another_user_is_not_there(
    alice: LangGraphClient, bob: LangGraphClient
) -> None:
    """409 would say that it exists, and a queued run would be in the way of its owner's."""
    thread_id = (await alice.threads.create())["thread_id"]
    run = await alice.runs.create(thread_id, "whoami", input={"waits": True})
    for strategy in ("reject", "enqueue", "interrupt", "rollback"):
        await refused(bob.runs.create(thread_id, "whoami", multitask_strategy=strategy))
    await refused(bob.runs.cancel(thread_id, run["run_id"]))
    await refused(bob.runs.cancel_many(status="all"))
    assert (await alice.runs.get(thread_id, run["run_id"]))["status"] in ("pending", "running")
    await alice.runs.cancel(thread_id, run["run_id"], wait=True)
    assert (await alice.runs.get(thread_id, run["run_id"]))["status"] == "interrupted"


async def test_the_next_attempt_is_on_behalf_of_the_same_user(
    alice: LangGraphClient, tmp_path: Path
) -> None:
    marker = str(tmp_path / "died")
    values: Any = await alice.runs.wait(None, "whoami", input={"marker": marker})
    assert values["seen"] == {
        "identity": "alice",
        "token": "tok-alice",
        "keys": ["display_name", "identity", "is_authenticated", "permissions", "token"],
        "id": "alice",
        "permissions": ["user"],
        "user_id": "alice",
        "of_runtime": "alice",
        "attempt": 2,
    }


async def test_no_client_says_who_it_is(alice: LangGraphClient) -> None:
    forged = {"identity": "root"}
    config: Any = {
        "configurable": {"langgraph_auth_user": forged, "langgraph_auth_user_id": "root"}
    }
    values: Any = await alice.runs.wait(None, "whoami", input={}, config=config)
    assert (values["seen"]["identity"], values["seen"]["id"]) == ("alice", "alice")


async def test_a_cron_fires_on_behalf_of_its_user(
    alice: LangGraphClient, bob: LangGraphClient
) -> None:
    thread_id = (await alice.threads.create())["thread_id"]
    await refused(bob.crons.create_for_thread(thread_id, "whoami", schedule="* * * * * *"))
    cron: Any = await alice.crons.create_for_thread(
        thread_id, "whoami", schedule="* * * * * *", input={}
    )
    assert cron["user_id"] == "alice"

    async def has_fired() -> bool:
        return bool((await alice.threads.get(thread_id))["values"])

    try:
        await until(has_fired)
        await refused(bob.crons.update(cron["cron_id"], enabled=False))
        await refused(bob.crons.delete(cron["cron_id"]))
    finally:
        await alice.crons.delete(cron["cron_id"])
    values: Any = (await alice.threads.get(thread_id))["values"]
    assert values["seen"]["identity"] == "alice"
    assert values["seen"]["token"] == "tok-alice"


async def test_a_stream_of_a_thread_shows_nothing_of_another_user(
    users: Served, alice: LangGraphClient, bob: LangGraphClient
) -> None:
    thread_id = (await alice.threads.create())["thread_id"]
    seen: dict[str, list[Any]] = {"alice": [], "bob": []}
    joined = {name: asyncio.Event() for name in seen}

    async def watch(name: str, client: LangGraphClient) -> None:
        headers = {"authorization": f"Bearer tok-{name}"}
        path = f"{users.url}/threads/{thread_id}/stream"
        async with httpx.AsyncClient(timeout=None) as http:
            async with http.stream("GET", path, headers=headers) as answer:
                joined[name].set()
                async for line in answer.aiter_lines():
                    if line.startswith(("event", "data")):
                        seen[name].append(line)

    watching = [asyncio.create_task(watch(*each)) for each in (("alice", alice), ("bob", bob))]
    try:
        async with asyncio.timeout(BOUND_S):
            for event in joined.values():
                await event.wait()
            for _ in range(2):
                await alice.runs.wait(thread_id, "whoami", input={})
            await until(lambda: sum("run_done" in each for each in seen["alice"]) >= 2)
    finally:
        for each in watching:
            each.cancel()
    assert seen["bob"] == []


async def test_an_administrator_sees_the_numbers(users: Served) -> None:
    async with httpx.AsyncClient(base_url=users.url) as http:
        for who, status in (("alice", 403), ("root", 200)):
            answer = await http.get("/metrics", headers={"authorization": f"Bearer tok-{who}"})
            assert answer.status_code == status


# --- whatever a user sends ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_request_of_a_user_meets_a_5xx(users: Served) -> None:
    import schemathesis
    from hypothesis import HealthCheck, given, settings
    from schemathesis.checks import not_a_server_error

    description = httpx.get(f"{users.url}/openapi.json").json()
    schema = schemathesis.openapi.from_dict(description)
    asked = 0
    for path, methods in description["paths"].items():
        for method in methods:
            if path.endswith("/threads/{thread_id}/stream"):
                continue  # it never ends by itself

            @settings(max_examples=5, database=None, suppress_health_check=list(HealthCheck))
            @given(case=schema[path][method].as_strategy())
            def send(case: Any) -> None:
                case.call_and_validate(
                    base_url=users.url,
                    headers={"authorization": "Bearer tok-alice"},
                    checks=[not_a_server_error],
                    timeout=60.0,
                )

            send()
            asked += 1
    assert asked > 120
