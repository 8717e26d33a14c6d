"""Every stream mode, event for event, as the reference server sent it (ids normalised)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from langgraph.store.memory import InMemoryStore

from tests.graphs.graph_driver import Normaliser, order, probe, run

REFERENCE: dict[str, Any] = json.loads(
    (Path(__file__).parent / "reference_streams.json").read_text(encoding="utf-8")
)
DIFFERS_BY_NATURE = frozenset(
    {
        "__after_seconds__",
        "__request_start_time_ms__",
        "created_by",
        "langgraph_api_url",
        "langgraph_api_version",
        "langgraph_auth_permissions",
        "langgraph_auth_user",
        "langgraph_auth_user_id",
        "langgraph_host",
        "langgraph_plan",
        "langgraph_request_id",
        "langgraph_version",
        "lc_versions",
        "timestamp",
        "user_id",
    }
)


@pytest.mark.parametrize("name", REFERENCE)
async def test_the_events_are_those_of_the_reference_in_name_order_and_bytes(name: str) -> None:
    request = dict(REFERENCE[name]["request"])
    loaded = probe(request.pop("assistant_id"))
    modes = request.pop("stream_mode", None)
    request["stream_mode"] = [modes] if isinstance(modes, str) else modes
    request["subgraphs"] = request.pop("stream_subgraphs", False)

    driven = await run(loaded, order(loaded.graph_id, **request), store=InMemoryStore())

    assert driven.outcome is not None
    if driven.outcome.error:
        driven.events.append(("error", json.loads(driven.outcome.error)))
    got = Normaliser(DIFFERS_BY_NATURE).events(driven.events)
    assert got == REFERENCE[name]["events"]
