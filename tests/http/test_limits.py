"""The limits of each caller: who is refused, with what words, and what is never refused."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import httpx
import pytest

from greenroom.core.errors import DatabaseUnavailable
from greenroom.core.limits import Limits, Rate
from greenroom.core.runs import RunStatus
from greenroom.http.settings import HttpSettings
from tests.actors.doubles import until
from tests.http.edge_doubles import RUN, THREAD, MemoryRecords, MemoryRuntime

CREATE = {"assistant_id": "counter", "input": {"count": 0}}
DAY = 86_400


def limited(**limits: Any) -> Any:
    return pytest.mark.parametrize(
        "settings", [HttpSettings(heartbeat_s=0.05, limits=Limits(**limits))], ids=[""]
    )


def by_key(key: str) -> dict[str, str]:
    return {"x-api-key": key}


@limited(by="key", requests=Rate(3, DAY))
async def test_requests_beyond_the_rate_are_refused_and_said_how_long(
    client: httpx.AsyncClient,
) -> None:
    for left in (2, 1, 0):
        answer = await client.post("/threads/search", json={}, headers=by_key("a"))
        assert answer.status_code == 200
        assert answer.headers["ratelimit-policy"] == f'"requests";q=3;w={DAY}'
        assert answer.headers["ratelimit"].startswith(f'"requests";r={left};t=')
    refused = await client.get("/info", headers=by_key("a"))
    assert refused.status_code == 429
    assert "3 in a day (limit_requests)" in refused.json()["detail"]
    assert int(refused.headers["retry-after"]) > 1
    assert refused.headers["ratelimit"].startswith('"requests";r=0;t=')
    # Others are not concerned; which header has the credential does not matter.
    assert (await client.get("/info", headers=by_key("b"))).status_code == 200
    assert (await client.get("/info", headers={"authorization": "a"})).status_code == 429
    assert (await client.get("/ok", headers=by_key("a"))).status_code == 200
    assert (await client.get("/api/ok", headers=by_key("a"))).status_code == 200


@limited(by="address", requests=Rate(1, DAY))
async def test_an_error_counts_as_a_request(client: httpx.AsyncClient) -> None:
    assert (await client.get("/threads/no-uuid")).status_code == 422
    # Whatever it says of keys: its address counts.
    assert (await client.get("/info", headers=by_key("a"))).status_code == 429


@limited(by="key", requests=Rate(1, DAY))
async def test_a_cancel_is_never_refused(
    client: httpx.AsyncClient, records: MemoryRecords, runtime: MemoryRuntime
) -> None:
    records.add_run()
    assert (await client.get("/info")).status_code == 200
    assert (await client.get(f"/threads/{THREAD}")).status_code == 429
    stopped = await client.post(f"/threads/{THREAD}/runs/{RUN}/cancel")
    assert stopped.status_code == 202
    assert (await client.post("/runs/cancel", json={"status": "all"})).status_code != 429
    assert len(runtime.cancels) == 1


@limited(by="key", body_bytes=Rate(1000, DAY))
async def test_bytes_of_bodies_are_limited_before_they_are_read(
    client: httpx.AsyncClient, runtime: MemoryRuntime
) -> None:
    large = {**CREATE, "input": {"text": "x" * 600}}
    assert (await client.post("/runs", json=large)).status_code == 200
    refused = await client.post("/runs", json=large)
    assert refused.status_code == 429
    assert "1000 in a day (limit_body_bytes)" in refused.json()["detail"]
    assert len(runtime.requests) == 1
    # A small one still fits, and so does one that has no body.
    assert (await client.post("/threads", json={})).status_code == 200
    assert (await client.get("/info")).status_code == 200


@limited(by="key", body_bytes=Rate(1000, DAY))
async def test_a_body_of_undeclared_length_is_counted_while_it_is_read(
    client: httpx.AsyncClient,
) -> None:
    async def pieces():
        yield b'{"metadata": {"text": "'
        yield b"x" * 1000
        yield b'"}}'

    assert (await client.post("/threads", content=pieces())).status_code == 200
    assert (await client.post("/threads", json={})).status_code == 429


@limited(by="key", streams=2)
async def test_answers_that_stay_open_are_limited(
    live: httpx.AsyncClient, records: MemoryRecords, runtime: MemoryRuntime, app: Any
) -> None:
    records.add_run()
    runtime.begin(RUN)

    async def read(path: str) -> int:
        async with live.stream("GET", path) as answer:
            async for _ in answer.aiter_bytes():
                pass
            return answer.status_code

    path = f"/threads/{THREAD}/runs/{RUN}"
    open_ones = [asyncio.create_task(read(f"{path}/{kind}")) for kind in ("stream", "join")]
    await until(lambda: len(app.state.edge.connections) == 2)
    refused = await live.get(f"{path}/stream")
    assert refused.status_code == 429
    assert "2 answers open at once" in refused.json()["detail"]
    assert (await live.post("/runs/wait", json=CREATE)).status_code == 429
    assert not runtime.requests
    # Other requests are not refused, and another caller has answers of its own.
    assert (await live.get(f"/threads/{THREAD}")).status_code == 200
    other = asyncio.create_task(live.get(f"{path}/join", headers=by_key("b")))
    runtime.finish(RUN)
    assert await asyncio.gather(*open_ones) == [200, 200]
    assert (await other).status_code == 200
    assert (await live.get(f"{path}/join")).status_code == 200


@limited(by="key", runs=2)
async def test_runs_in_flight_are_limited(
    client: httpx.AsyncClient, records: MemoryRecords, runtime: MemoryRuntime
) -> None:
    made = [(await client.post("/runs", json=CREATE)).json()["run_id"] for _ in range(2)]
    for path in ("/runs", "/runs/wait", "/runs/stream", f"/threads/{THREAD}/runs"):
        refused = await client.post(path, json={**CREATE, "if_not_exists": "create"})
        assert refused.status_code == 429, path
        assert "2 runs that are not over. You may have 2 (limit_runs)" in refused.json()["detail"]
    assert len(runtime.requests) == 2
    assert (await client.post("/runs", json=CREATE, headers=by_key("b"))).status_code == 200
    runtime.finish(made[0])
    assert (await client.post("/runs", json=CREATE)).status_code == 200


@limited(by="key", runs=5)
async def test_a_batch_is_made_whole_or_not_at_all(
    client: httpx.AsyncClient, runtime: MemoryRuntime
) -> None:
    refused = await client.post("/runs/batch", json=[CREATE] * 6)
    assert refused.status_code == 429
    assert "ask for 6 more" in refused.json()["detail"]
    assert not runtime.requests
    assert (await client.post("/runs/batch", json=[CREATE] * 5)).status_code == 200
    assert len(runtime.requests) == 5


@limited(by="key", runs=5)
async def test_creates_at_one_moment_do_not_exceed_the_limit_together(
    client: httpx.AsyncClient, records: MemoryRecords, runtime: MemoryRuntime
) -> None:
    answers = await asyncio.gather(*(client.post("/runs", json=CREATE) for _ in range(20)))
    assert sorted(each.status_code for each in answers) == [200] * 5 + [429] * 15
    assert len(runtime.requests) == 5


@limited(by="key", runs=1)
async def test_a_repetition_of_a_create_is_not_one_more(
    client: httpx.AsyncClient, runtime: MemoryRuntime
) -> None:
    keyed = {"idempotency-key": "k"}
    first = await client.post("/runs", json=CREATE, headers=keyed)
    again = await client.post("/runs", json=CREATE, headers=keyed)
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json()["run_id"] == again.json()["run_id"]


@limited(by="key", queued=1)
async def test_waiting_runs_are_limited(
    client: httpx.AsyncClient, records: MemoryRecords, runtime: MemoryRuntime
) -> None:
    made = (await client.post("/runs", json=CREATE)).json()["run_id"]
    assert (await client.post("/runs", json=CREATE)).status_code == 200
    records.runs[made]["status"] = str(RunStatus.PENDING)
    refused = await client.post("/runs", json=CREATE)
    assert refused.status_code == 429
    assert "1 runs that wait. You may have 1 (limit_queued)" in refused.json()["detail"]


@limited(by="key", requests=Rate(10, DAY))
async def test_what_other_gateways_have_counted_counts(
    client: httpx.AsyncClient, records: MemoryRecords, app: Any
) -> None:
    assert (await client.get("/info")).status_code == 200
    await app.state.edge.connections.until_idle()
    ((kind, caller, period),) = records.told_usage[-1]
    assert (kind, period) == ("requests", math.floor(time.time() / DAY))
    records.usage_of_others = {(kind, caller, period): 9}
    await app.state.edge.usage.tell(records)
    assert (await client.get("/info")).status_code == 429
    records.usage_of_others = {}
    await app.state.edge.usage.tell(records)
    assert (await client.get("/info")).status_code == 200


@limited(by="key", requests=Rate(2, DAY))
async def test_without_the_database_a_gateway_counts_alone(
    client: httpx.AsyncClient, records: MemoryRecords
) -> None:
    records.down = DatabaseUnavailable("gone")
    answers = [(await client.get("/info")).status_code for _ in range(3)]
    assert answers == [200, 200, 429]


async def test_without_limits_nothing_is_counted(
    client: httpx.AsyncClient, records: MemoryRecords, runtime: MemoryRuntime
) -> None:
    answer = await client.post("/runs", json=CREATE)
    assert "ratelimit" not in answer.headers
    assert runtime.requests[0].caller is None
    assert not records.told_usage
