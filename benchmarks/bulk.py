"""Measures what creates of runs wait for while large threads are copied, deleted or rolled back.

    python -m benchmarks.bulk

A thread gets `MIB` MiB of checkpoints, of random text that PostgreSQL cannot compress. Then one
client creates runs on other threads, one after the other, while the bulk work goes on; before it,
the same creates have the server to themselves. The bar is a p95 of twice the usual one.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from typing import Any

import httpx
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

import greenroom

MIB = 500
STEP_MIB = 10
USUAL = 300
ROUNDS = 3


class State(TypedDict, total=False):
    rounds: int
    hold: bool
    pile: str


async def pile(state: State) -> State:
    text = random.randbytes(STEP_MIB * 1024 * 1024 // 2).hex()
    return {"rounds": state.get("rounds", 0) + 1, "pile": text}


async def hold(state: State) -> State:
    if state.get("hold"):
        await asyncio.sleep(3600)
    return {}


def again(state: State) -> str:
    return "pile" if state.get("rounds", 0) < MIB // STEP_MIB else "hold"


async def nothing(state: State) -> State:
    return {}


def graphs() -> dict[str, Any]:
    builder = StateGraph(State).add_node("pile", pile).add_node("hold", hold)
    builder.add_edge(START, "pile").add_conditional_edges("pile", again, ["pile", "hold"])
    small = StateGraph(State).add_node("nothing", nothing).add_edge(START, "nothing")
    return {"large": builder.add_edge("hold", END).compile(), "small": small.compile()}


class Creating:
    """Creates runs, one after the other, until it is stopped."""

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=600)
        self.took_ms: list[float] = []

    async def once(self) -> None:
        began_s = time.perf_counter()
        body = {"assistant_id": "small", "input": {}, "after_seconds": 36_000}
        answer = await self._http.post("/runs", json=body)
        self.took_ms.append(1e3 * (time.perf_counter() - began_s))
        assert answer.status_code == 200, answer.text
        await asyncio.sleep(0.005)

    async def beside(self, work: asyncio.Task[Any]) -> Any:
        while not work.done():
            await self.once()
        return await work


async def large_thread(http: httpx.AsyncClient, *, held: bool) -> tuple[str, str]:
    """Makes a thread with its checkpoints; a held run waits for ever after its last one."""
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    body = {"assistant_id": "large", "input": {"hold": held}, "durability": "sync"}
    body["config"] = {"recursion_limit": 1000}
    run = (await http.post(f"/threads/{thread_id}/runs", json=body)).json()
    while True:
        if held:
            state = (await http.get(f"/threads/{thread_id}/state?select=next")).json()
            done = state["next"] == ["hold"]
        else:
            path = f"/threads/{thread_id}/runs/{run['run_id']}"
            done = (await http.get(path)).json()["status"] == "success"
        if done:
            return thread_id, run["run_id"]
        await asyncio.sleep(0.2)


async def bulk(http: httpx.AsyncClient, kind: str) -> asyncio.Task[httpx.Response]:
    thread_id, run_id = await large_thread(http, held=kind == "rollback")
    path = f"/threads/{thread_id}"
    calls = {
        "copy": ("POST", f"{path}/copy"),
        "delete": ("DELETE", path),
        "rollback": ("POST", f"{path}/runs/{run_id}/cancel?action=rollback&wait=true"),
    }
    method, address = calls[kind]
    return asyncio.create_task(http.request(method, address))


def p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[18]


async def measured(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=600) as http:
        for kind in ("copy", "delete", "rollback"):
            usual, beside = Creating(url), Creating(url)
            took_s: list[float] = []
            for _ in range(ROUNDS):
                for _ in range(USUAL // ROUNDS):
                    await usual.once()
                work = await bulk(http, kind)
                began_s = time.perf_counter()
                answer = await beside.beside(work)
                took_s.append(time.perf_counter() - began_s)
                assert answer.status_code < 300, answer.text
            print(
                f"| {kind} | {statistics.median(took_s):.1f} | {len(beside.took_ms)} |"
                f" {p95(usual.took_ms):.1f} | {p95(beside.took_ms):.1f} |"
                f" {max(beside.took_ms):.0f} |",
                flush=True,
            )


def main() -> None:
    print("| bulk work | s | creates | usual p95 ms | beside p95 ms | slowest ms |")
    print("|---|---|---|---|---|---|")
    with greenroom.open(graphs()) as room:
        asyncio.run(measured(room.url))


if __name__ == "__main__":
    main()
