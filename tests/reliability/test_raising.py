"""A run that raises whatever ends in error within seconds, beside others that notice nothing.

`tests/graphs/test_raising.py` has every place and every kind, without a server.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from tests.waiting import BOUND_S

SLEEP_S = 3.0

TOLD = {
    "exit": {"error": "SystemExit", "message": "2"},
    "argparse": {"error": "SystemExit", "message": "2"},
    "keyboard": {"error": "KeyboardInterrupt", "message": ""},
    "generator": {"error": "GeneratorExit", "message": ""},
    "own": {"error": "Own", "message": "o"},
    "mute": {
        "error": "Mute",
        "message": "<Mute: ZeroDivisionError while its message was read>",
    },
    "unpicklable": {"error": "Unpicklable", "message": "cannot be pickled"},
    "long": {"error": "ValueError", "message": "x" * 16_384 + "... (10000000 characters)"},
}
PLACES = ("in_a_node", "in_a_thread", "in_a_tool", "in_an_edge")


async def waited(http: httpx.AsyncClient, graph: str, **input: Any) -> tuple[str, Any]:
    """A run on a thread of its own: the thread, and what its creator was answered."""
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    answered = await http.post(
        f"/threads/{thread_id}/runs/wait",
        json={"assistant_id": graph, "input": input},
        timeout=BOUND_S,
    )
    return thread_id, answered.json()


@pytest.mark.parametrize("graph", ["raising", "raising_crowd"])
async def test_a_run_that_raises_ends_in_error_and_nobody_else_notices(
    http: httpx.AsyncClient, graph: str
) -> None:
    sleepers: list[asyncio.Task[tuple[str, Any]]] = []
    if graph == "raising_crowd":
        sleepers = [asyncio.create_task(waited(http, graph, seconds=SLEEP_S)) for _ in range(3)]
        await asyncio.sleep(0)
    cases = [(how, where) for how in TOLD for where in PLACES]
    begun_s = time.monotonic()
    ended = await asyncio.gather(
        *(waited(http, graph, how=how, where=where) for how, where in cases)
    )
    assert time.monotonic() - begun_s < BOUND_S
    for (how, where), (thread_id, output) in zip(cases, ended, strict=True):
        assert output == {"__error__": TOLD[how]}, (how, where)
        thread = (await http.get(f"/threads/{thread_id}")).json()
        assert (thread["status"], thread["error"]) == ("error", TOLD[how]), (how, where)
        state = (await http.get(f"/threads/{thread_id}/state")).json()
        assert state["values"]["before"] == "kept", (how, where)
        (run,) = (await http.get(f"/threads/{thread_id}/runs")).json()
        assert run["status"] == "error"
    others = await asyncio.gather(*sleepers)
    _, after = await waited(http, graph)
    for output in [*(output for _, output in others), after]:
        assert output["before"] == "kept"
    if graph == "raising_crowd":
        pids = {state["pid"] for _, state in others} | {after["pid"]}
        assert len(pids) == 1, "its process goes on"


async def test_sdk_wait_raises_what_a_run_raised(client: LangGraphClient) -> None:
    for how in ("mute", "long", "exit"):
        with pytest.raises(Exception, match=TOLD[how]["error"]):
            await client.runs.wait(None, "raising", input={"how": how})


@pytest.mark.parametrize("graph", ["raising", "raising_crowd"])
async def test_a_loop_that_stops_is_a_death_of_the_actor(
    http: httpx.AsyncClient, tmp_path: Path, graph: str
) -> None:
    die = {"once": str(tmp_path / "stopped")}
    _, output = await waited(http, graph, die=die, seconds=0.1)
    assert output["before"] == "kept"
    assert (tmp_path / "stopped").exists()
    _, after = await waited(http, graph)
    assert after["before"] == "kept"
