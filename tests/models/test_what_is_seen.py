"""What whoever runs the server sees of a run: its spans in a collector, its lines in the log."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import httpx
from langgraph_sdk.client import LangGraphClient
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.models.collector import Collector
from tests.serving import Served
from tests.waiting import until

HELLO: Any = {"messages": [{"role": "user", "content": "Hello"}]}
PATIENCE_S = 60.0


async def trace(
    collector: Collector, server: Served, graph: str, ends: str
) -> tuple[bytes, dict[str, tuple[str, Span]]]:
    """The spans of a run, by name, of a client that is traced itself; its own span's id first."""
    trace_id, span_id = os.urandom(16), os.urandom(8)
    headers = {"traceparent": f"00-{trace_id.hex()}-{span_id.hex()}-01"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=60) as http:
        await http.post("/runs/wait", json={"assistant_id": graph, "input": HELLO})
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        spans = {span.name: (part, span) for part, span in collector.of(trace_id)}
        if {"POST /runs/wait", "create", "queue", ends} <= spans.keys():
            return span_id, spans
        assert time.monotonic() < deadline_s, sorted(spans)
        await asyncio.sleep(0.05)


async def test_a_trace_leads_from_the_client_to_each_node(
    collector: Collector, server: Served
) -> None:
    client, spans = await trace(collector, server, "agent", "run agent")
    assert {name: part for name, (part, _) in spans.items()} == {
        "POST /runs/wait": "gateway",
        "create": "gateway",
        "queue": "registry",
        "run agent": "actor",
        "node answer": "actor",
        "node tools": "actor",
        "node judge": "actor",
    }
    request, run = spans["POST /runs/wait"][1], spans["run agent"][1]
    assert request.parent_span_id == client
    for name in ("create", "queue", "run agent"):
        assert spans[name][1].parent_span_id == request.span_id, name
    for name in ("node answer", "node tools", "node judge"):
        node = spans[name][1]
        assert node.parent_span_id == run.span_id, name
        assert run.start_time_unix_nano <= node.start_time_unix_nano
        assert node.end_time_unix_nano <= run.end_time_unix_nano
    about = {each.key: each.value for each in run.attributes}
    assert about["greenroom.attempt"].int_value == 1
    assert about["greenroom.graph_id"].string_value == "agent"


async def test_the_spans_of_a_run_that_fails_say_so(collector: Collector, server: Served) -> None:
    _, spans = await trace(collector, server, "refused", "run refused")
    for name in ("run refused", "node talk"):
        status = spans[name][1].status
        assert status.code == Status.STATUS_CODE_ERROR
        assert "That is too long for me." in status.message


async def test_the_line_of_a_runs_end_has_its_ids(client: LangGraphClient, server: Served) -> None:
    thread = await client.threads.create()
    run: Any = await client.runs.create(thread["thread_id"], "of_threads", input=HELLO)
    await client.runs.join(thread["thread_id"], run["run_id"])

    def of_run() -> list[dict[str, Any]]:
        return [each for each in log_of(server) if each.get("run_id") == run["run_id"]]

    (line,) = await until(of_run)  # a run's client hears of the end first
    assert line.pop("actor") in {
        each["actor"] for each in log_of(server) if each.get("action") == "actor_ready"
    }
    assert line["thread_id"] == thread["thread_id"]
    assert (line["action"], line["attempt"], line["status"]) == ("run_ended", 1, "success")


def log_of(server: Served) -> list[dict[str, Any]]:
    file: Path = server.data_dir / "logs" / "greenroom.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]
