"""Runs of a server, begun on a thread by its path."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

BOUND_S = 20.0


async def start(http: httpx.AsyncClient, thread: str, assistant: str, **body: Any) -> str:
    """Creates a run in the background; returns its path."""
    answer = await http.post(f"{thread}/runs", json={"assistant_id": assistant, **body})
    assert answer.status_code == 200, answer.text
    return f"{thread}/runs/{answer.json()['run_id']}"


async def until_running(http: httpx.AsyncClient, run: str) -> None:
    """Returns with the first values of the run, so that it has a state."""
    async with asyncio.timeout(BOUND_S), http.stream("GET", f"{run}/stream") as stream:
        async for line in stream.aiter_lines():
            if line.startswith("event: values"):
                return
