"""Measures how long it takes until a run takes what is said to it.

    python -m benchmarks.said

A graph goes around, one superstep of `STEP_S` after the other, and a client says something at
random times. Measured is the time from the request to the ``input`` event of the run's stream, and
the time between the moments that the server notes. The bound is one superstep and 20 ms: something
that comes right after a superstep has begun waits for its end. The second graph listens: its node
takes what is said at once.
"""

from __future__ import annotations

import asyncio
import json
import operator
import random
import statistics
import time
from datetime import datetime
from typing import Annotated, Any

import httpx
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

import greenroom

STEP_S = 0.05
TIMES = 200


class State(TypedDict, total=False):
    said: Annotated[list[int], operator.add]
    rounds: int


async def go_around(state: State) -> State:
    await asyncio.sleep(STEP_S)
    return {"rounds": state.get("rounds", 0) + 1}


async def hear(state: State) -> State:
    heard = await greenroom.inbox().ahear()
    return {"said": [number for each in heard for number in each.update["said"]]}


def again(state: State) -> str:
    return END if -1 in state.get("said", []) else "node"


at = datetime.fromisoformat


def graph_of(node: Any) -> Any:
    builder = StateGraph(State).add_node("node", node).add_edge(START, "node")
    return builder.add_conditional_edges("node", again, ["node", END]).compile()


async def measured(url: str, graph: str) -> tuple[list[float], list[float]]:
    """The seconds from each request to its event, and from what is stored to what is taken."""
    told: dict[str, asyncio.Future[float]] = {}
    loop = asyncio.get_running_loop()
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        thread_id = (await http.post("/threads", json={})).json()["thread_id"]
        config = {"recursion_limit": 100_000}
        body = {"assistant_id": graph, "input": {"rounds": 0}, "config": config}
        runs = f"/threads/{thread_id}/runs"
        begun: asyncio.Future[str] = loop.create_future()

        async def follow() -> None:
            name = ""
            async with http.stream("POST", f"{runs}/stream", json=body) as stream:
                async for line in stream.aiter_lines():
                    key, _, value = line.partition(": ")
                    name = value if key == "event" else name
                    if key == "data" and name == "values" and not begun.done():
                        begun.set_result(stream.headers["content-location"])
                    if key == "data" and name == "input":
                        input_id = json.loads(value)["input_id"]
                        future = told.setdefault(input_id, loop.create_future())
                        future.set_result(time.perf_counter())

        following = asyncio.create_task(follow())
        path = await begun
        took: list[float] = []
        for number in [*range(TIMES), -1]:
            await asyncio.sleep(random.uniform(0.0, 2 * STEP_S))
            began_s = time.perf_counter()
            said = await http.post(f"{path}/input", json={"input": {"said": [number]}})
            assert said.status_code == 202, said.text
            future = told.setdefault(said.json()["input_id"], loop.create_future())
            took.append(await future - began_s)
        await following
        listed = (await http.get(f"{path}/input")).json()
    moments = [(each["taken"]["at"], each["said_at"]) for each in listed]
    stored = [(at(taken) - at(said)).total_seconds() for taken, said in moments]
    return took[:-1], stored[:-1]


def main() -> None:
    graphs = {"goes_around": graph_of(go_around), "listens": greenroom.listening(graph_of(hear))}
    print("| graph | superstep | | p50 ms | p95 ms |\n|---|---|---|---|---|")
    with greenroom.open(graphs) as room:
        for graph, step in (("goes_around", f"{STEP_S * 1e3:g} ms"), ("listens", "waits")):
            took, stored = asyncio.run(measured(room.url, graph))
            for way, times in (("request to event", took), ("stored to taken", stored)):
                p = [1e3 * each for each in statistics.quantiles(times, n=20)]
                print(f"| {graph} | {step} | {way} | {p[9]:.1f} | {p[18]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
