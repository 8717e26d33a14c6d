"""A large state is made, streamed, kept, read and listed; a bound says what to do instead."""

from __future__ import annotations

from typing import Any

import httpx
import orjson
import pytest

from tests.serving import Served
from tests.waiting import until

MIB = 1 << 20
BOUND_S = 180.0

HALVES_MIB = [
    # More than `HISTORY_MAX_BYTES`, which bounds an answer with several states.
    pytest.param(33, id="66 MiB"),
    pytest.param(50, id="100 MiB", marks=pytest.mark.slow),
]
"""Of lines, and as much of text beside them."""


@pytest.fixture
async def patient(server: Served) -> Any:
    async with httpx.AsyncClient(base_url=server.url, timeout=BOUND_S) as http:
        yield http


def is_whole(state: dict[str, Any], half_mib: int) -> bool:
    lines, text = state["lines"], state["text"]
    return (
        [len(lines), len(text)] == [half_mib * 1024, half_mib * MIB]
        and all(line == f"{n:01024}" for n, line in enumerate(lines))
        and text == "0123456789abcdef" * (len(text) // 16)
    )


@pytest.mark.parametrize("half_mib", HALVES_MIB)
async def test_a_large_state_passes_everywhere(patient: httpx.AsyncClient, half_mib: int) -> None:
    thread_id = (await patient.post("/threads", json={})).json()["thread_id"]
    path = f"/threads/{thread_id}"
    body = {"assistant_id": "large", "input": {"text": str(half_mib)}}
    streamed = []
    last = b""
    async with patient.stream(
        "POST", f"{path}/runs/stream", json={**body, "stream_mode": "values"}
    ) as answer:
        assert answer.status_code == 200
        parts: list[bytes] = [part async for part in answer.aiter_raw()]
    for frame in b"".join(parts).split(b"\r\n\r\n"):
        name, _, rest = frame.partition(b"\r\n")
        streamed.append(name)
        if name == b"event: values":
            last = rest.partition(b"\r\n")[0].removeprefix(b"data: ")
    assert streamed.count(b"event: values") == 4
    assert is_whole(orjson.loads(last), half_mib)
    del parts, last

    thread = orjson.loads((await patient.get(path)).content)
    assert thread["status"] == "idle"
    assert is_whole(thread["values"], half_mib)
    state = orjson.loads((await patient.get(f"{path}/state")).content)
    assert is_whole(state["values"], half_mib)
    assert state["values"]["steps"] == 2
    (newest,) = orjson.loads((await patient.get(f"{path}/history?limit=1")).content)
    assert newest == state

    refused = await patient.get(f"{path}/history?limit=10")
    assert refused.status_code == 400
    assert "limit=1 at once" in refused.json()["detail"]
    before = newest["parent_checkpoint_id"]
    (older,) = orjson.loads(
        (await patient.get(f"{path}/history?limit=1&before={newest['checkpoint_id']}")).content
    )
    assert older["checkpoint_id"] == before
    assert is_whole(older["values"], half_mib)
    assert older["next"] == ["touch"]

    answer = await patient.post(f"{path}/runs/wait", json={**body, "input": {"text": "0"}})
    assert answer.status_code == 200
    assert orjson.loads(answer.content)["lines"] == []
    assert (await patient.delete(path)).status_code in (200, 204)


@pytest.mark.slow
async def test_what_ended_runs_had_is_given_back(
    patient: httpx.AsyncClient, server: Served
) -> None:
    """An ended attempt is in cycles of references, which the collector finds late, and readers need
    only its events and its outcome: by itself every run would leave three times its state."""

    def held_mib() -> dict[int, float]:
        """Of each actor; another one may come and go meanwhile."""
        actors = [p for title, p in server.actors().items() if title.startswith("RunActor")]
        return {actor.pid: actor.memory_info().rss / MIB for actor in actors}

    before_mib = max(held_mib().values())
    size_mib, runs = 20, 8
    for _ in range(runs):
        body = {"assistant_id": "counter", "input": {"count": 0, "log": ["x" * size_mib * MIB]}}
        assert (await patient.post("/runs/wait", json=body)).status_code == 200

    def is_given_back() -> bool:
        """Of the last one its events and outcome stay, and the C library keeps some."""
        half_mib = runs * 3 * size_mib / 2
        return all(mib - before_mib < half_mib for mib in held_mib().values())

    await until(is_given_back, within_s=BOUND_S)
