"""`GET /metrics` of a real server, read by Prometheus' own parser."""

from __future__ import annotations

import httpx
from langgraph_sdk.client import LangGraphClient
from prometheus_client.parser import text_string_to_metric_families


async def samples(http: httpx.AsyncClient) -> dict[tuple[str, ...], float]:
    """The sums over all registries."""
    answer = await http.get("/metrics")
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = [value for name, value in sample.labels.items() if name != "shard"]
            name = (sample.name, *labels)
            found[name] = found.get(name, 0) + sample.value
    return found


async def test_a_run_is_counted_from_its_creation_to_its_end(
    http: httpx.AsyncClient, client: LangGraphClient
) -> None:
    graph = "trivial"
    before = await samples(http)
    parts = [part async for part in client.runs.stream(None, graph, input={"x": 1})]
    assert parts[-1].event != "error", parts[-1].data
    after = await samples(http)

    def grown(*name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    assert grown("greenroom_runs_total", graph, "success") == 1
    assert grown("greenroom_queue_wait_seconds_count", graph) == 1
    assert grown("greenroom_first_event_seconds_count", graph) == 1
    assert grown("greenroom_run_seconds_count", graph) == 1
    assert grown("greenroom_events_total", graph) == len(parts)
    assert grown("greenroom_registry_seconds_count", "create") >= 1
    assert grown("greenroom_registry_seconds_count", "finish") >= 1
    assert grown("greenroom_database_commit_seconds_count") >= 2
    assert sum(v for key, v in after.items() if key[0] == "greenroom_pool_actors") >= 1


async def test_a_run_that_fails_is_counted_as_such(
    http: httpx.AsyncClient, client: LangGraphClient
) -> None:
    before = await samples(http)
    await client.runs.wait(None, "fails", input={"x": 1}, raise_error=False)
    after = await samples(http)
    name = ("greenroom_runs_total", "fails", "error")
    assert after[name] - before.get(name, 0) == 1
