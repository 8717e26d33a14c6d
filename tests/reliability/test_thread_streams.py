"""The stream of a whole thread, beside deaths: it shows every run, and each of its events once."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.reliability.test_run_deaths import thread
from tests.reliability.witness import is_warm, process_titled
from tests.serving import Served
from tests.waiting import until


@dataclass
class Watched:
    """What a thread's stream has shown."""

    names: list[str] = field(default_factory=list)
    data: list[Any] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def done(self) -> list[str]:
        """The runs whose end was told."""
        return [each["run_id"] for each in self.data if _status(each) == "run_done"]

    @property
    def begun(self) -> list[str]:
        """The runs whose beginning was told."""
        return [
            each["run_id"] for each in self.data if isinstance(each, dict) and "attempt" in each
        ]


def _status(data: Any) -> Any:
    return data.get("status") if isinstance(data, dict) else None


async def watch(
    http: httpx.AsyncClient, thread_id: str, seen: Watched, modes: str, after: str | None = None
) -> None:
    headers = {} if after is None else {"last-event-id": after}
    path = f"/threads/{thread_id}/stream?stream_modes={modes}"
    async with http.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200
        seen.opened.set()
        async for line in answer.aiter_lines():
            field_name, _, value = line.partition(": ")
            match field_name:
                case "event":
                    seen.names.append(value)
                case "data":
                    seen.data.append(json.loads(value))
                case "id":
                    seen.ids.append(value)


async def run(http: httpx.AsyncClient, thread_id: str, n: int = 1, **more: Any) -> str:
    body = {"assistant_id": "steps", "input": {"n": n}, **more}
    answer = await http.post(f"/threads/{thread_id}/runs/wait", json=body)
    assert answer.status_code == 200
    return answer.headers["content-location"].rpartition("/")[2]


async def leave(watching: asyncio.Task[None]) -> None:
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


@pytest.mark.parametrize("modes", ["run_modes", "lifecycle"])
async def test_a_threads_stream_misses_no_run_when_the_registry_dies(
    http: httpx.AsyncClient, server: Served, modes: str
) -> None:
    """Runs begin and end before its next poll, and again after it."""
    await is_warm(http)
    thread_id, seen = await thread(http), Watched()
    watching = asyncio.create_task(watch(http, thread_id, seen, modes))
    try:
        await asyncio.wait_for(seen.opened.wait(), 30)
        runs = [await run(http, thread_id) for _ in range(4)]
        process_titled(server, "RegistryActor").kill()
        runs += [await run(http, thread_id) for _ in range(6)]
        await until(lambda: len(seen.done) >= 10)
        assert seen.done == runs
        assert seen.begun == runs
        assert [int(i.partition("-")[0]) for i in seen.ids] == sorted(
            int(i.partition("-")[0]) for i in seen.ids
        )
    finally:
        await leave(watching)


async def test_a_client_that_comes_back_sees_the_rest_of_its_run_and_every_run_after_it(
    http: httpx.AsyncClient, server: Served
) -> None:
    """It has seen a part of the first run; the second one is executed when it comes back. Its id
    names the first run, also after the death of the registry."""
    await is_warm(http)
    thread_id, seen = await thread(http), Watched()
    watching = asyncio.create_task(watch(http, thread_id, seen, "run_modes"))
    await asyncio.wait_for(seen.opened.wait(), 30)
    slow = {"n": 5, "delay": 0.2}
    body = {"assistant_id": "steps", "input": slow, "stream_mode": ["updates"]}
    first = (await http.post(f"/threads/{thread_id}/runs", json=body)).json()["run_id"]
    await until(lambda: seen.names.count("updates") >= 2)
    await leave(watching)
    had = seen.names.count("updates")
    await http.get(f"/threads/{thread_id}/runs/{first}/join")
    between = await run(http, thread_id)
    body["input"] = {"n": 400, "delay": 0.2}
    second = (await http.post(f"/threads/{thread_id}/runs", json=body)).json()["run_id"]
    process_titled(server, "RegistryActor").kill()
    again = Watched()
    watching = asyncio.create_task(watch(http, thread_id, again, "run_modes", seen.ids[-1]))
    try:
        await until(lambda: again.names.count("updates") >= 5 - had + 2)
        assert again.begun == [between, second]
        assert again.done == [first, between]
        updates = [d for n, d in zip(again.names, again.data, strict=False) if n == "updates"]
        rest = [next(iter(update.values()))["i"] for update in updates]
        assert rest[: 5 - had + 2] == [*range(had + 1, 6), 7, 8]  # the state goes on counting
    finally:
        await leave(watching)
        await http.post(f"/threads/{thread_id}/runs/{second}/cancel?wait=1")
