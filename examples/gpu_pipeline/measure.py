"""Measures the example on this machine, with a GPU or without, and prints tables for docs/gpu.md.

    make serve CONFIG=examples/gpu_pipeline/gpu.json     # or .../langgraph.json without a GPU
    .venv/bin/python examples/gpu_pipeline/measure.py    # in another terminal

Every run is a stream of the real API, so what is measured is what a client sees: tokens a second of
all runs together, and how long a run's first token took (the median). It needs `langgraph-sdk`.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from typing import Any

from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

QUESTION: Any = {"messages": [{"role": "user", "content": "Tell me a story."}]}
SEARCH: Any = {
    "query": "warm bread",
    "documents": [
        f"{adjective} bread number {n}" for n in range(20) for adjective in ("old", "new")
    ],
    "repeat": 20,
}


async def talk(client: LangGraphClient, graph: str, tokens: int) -> tuple[float, int]:
    """Seconds to the first token, and how many came."""
    began, first, count = time.monotonic(), None, 0
    config: Any = {"configurable": {"max_tokens": tokens}}
    stream = client.runs.stream(
        None, graph, input=QUESTION, config=config, stream_mode="messages-tuple"
    )
    async for part in stream:
        if part.event == "error":
            raise RuntimeError(part.data)
        if part.event == "messages" and part.data[0]["content"]:
            first = first if first is not None else time.monotonic() - began
            count += 1
    assert first is not None
    return first, count


async def talk_together(
    client: LangGraphClient, graph: str, runs: int, tokens: int
) -> tuple[float, float]:
    """Tokens a second of all, and the median of their first tokens in seconds."""
    began = time.monotonic()
    results = await asyncio.gather(*(talk(client, graph, tokens) for _ in range(runs)))
    count = sum(each for _, each in results)
    return count / (time.monotonic() - began), statistics.median(first for first, _ in results)


async def search(client: LangGraphClient, until: asyncio.Event, at_once: int = 2) -> float:
    """Searches a second while something else is going on."""
    done = 0

    async def again() -> None:
        nonlocal done
        while not until.is_set():
            await client.runs.wait(None, "similar", input=SEARCH)
            done += SEARCH["repeat"]

    began = time.monotonic()
    await asyncio.gather(*(again() for _ in range(at_once)))
    return done / (time.monotonic() - began)


async def main(url: str, counts: list[int], tokens: int, seconds: float) -> None:
    async with get_client(url=url) as client:
        for graph in ("talk", "talk_one_by_one"):
            await talk(client, graph, 5)  # a process finds its deployment on its first run
        state: Any = await client.runs.wait(None, "similar", input=SEARCH)
        print(f"Device of the graph's own node: {state['device']}. Tokens a run: {tokens}.\n")
        print("| concurrent runs | batched, tokens/s | one by one, tokens/s |", end="")
        print(" batched, first token | one by one, first token |")
        print("|---|---|---|---|---|")
        for runs in counts:
            batched, soon = await talk_together(client, "talk", runs, tokens)
            single, late = await talk_together(client, "talk_one_by_one", runs, tokens)
            print(f"| {runs} | {batched:,.0f} | {single:,.0f} |", end="")
            print(f" {soon * 1000:,.0f} ms | {late * 1000:,.0f} ms |", flush=True)

        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, stop.set)
        searches_alone = await search(client, stop)
        most = max(counts)
        tokens_alone, _ = await talk_together(client, "talk", most, tokens)
        stop = asyncio.Event()
        searching = asyncio.create_task(search(client, stop))
        tokens_beside, _ = await talk_together(client, "talk", most, tokens)
        stop.set()
        searches_beside = await searching
        print("\n| | alone | both at once |\n|---|---|---|")
        print(f"| `talk`, {most} runs, tokens/s | {tokens_alone:,.0f} | {tokens_beside:,.0f} |")
        print(f"| `similar`, 2 runs, searches/s | {searches_alone:,.0f} | {searches_beside:,.0f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=10.0, help="of searching alone")
    given = parser.parse_args()
    asyncio.run(main(given.url, given.runs, given.tokens, given.seconds))
