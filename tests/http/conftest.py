from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from greenroom.http.app import create_app
from greenroom.http.edge import Connections, Edge
from greenroom.http.settings import HttpSettings
from greenroom.http.usage import CallerUsage
from tests.http.edge_doubles import GRAPHS, MemoryRecords, MemoryRuntime

LEAVING_S = 5.0
"""For requests whose clients have left."""


@pytest.fixture
async def records() -> MemoryRecords:
    return MemoryRecords()


@pytest.fixture
async def runtime(records: MemoryRecords) -> MemoryRuntime:
    return MemoryRuntime(records)


@pytest.fixture
def settings() -> HttpSettings:
    return HttpSettings(heartbeat_s=0.05, max_body_bytes=100_000)


@functools.cache
def app_with_routes(settings: HttpSettings) -> tuple[FastAPI, Edge]:
    """One for all tests with these settings: to make its routes takes 40 ms, or 400 with the oldest
    FastAPI."""
    records = MemoryRecords()
    runtime = MemoryRuntime(records)
    app = create_app(runtime=runtime, records=records, graphs=GRAPHS, settings=settings)
    return app, app.state.edge


@pytest.fixture
async def app(
    runtime: MemoryRuntime, records: MemoryRecords, settings: HttpSettings
) -> AsyncIterator[FastAPI]:
    app, edge = app_with_routes(settings)
    app.state.edge = replace(
        edge,
        runtime=runtime,
        records=records,
        connections=Connections(),
        usage=CallerUsage(settings.limits),
    )
    # Made for each test: what it counts is its own.
    app.middleware_stack = None
    yield app
    # Nothing may be left behind, whatever the test did.
    assert len(app.state.edge.connections) == 0
    assert runtime.open == 0


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
        yield client


@pytest.fixture
async def url(app: FastAPI) -> AsyncIterator[str]:
    """The app behind a real socket: disconnects and back-pressure are those of a server."""
    async with serving(app) as url:
        yield url


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_level="warning", ws="none", lifespan="off"
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    port = server.servers[0].sockets[0].getsockname()[1]
    loop = asyncio.create_task(server.main_loop())
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        loop.cancel()
        # What `shutdown` does, without the sleeps.
        for each in server.servers:
            each.close()
        for connection in list(server.server_state.connections):
            connection.shutdown()
        if requests := server.server_state.tasks:
            await asyncio.wait(requests, timeout=LEAVING_S)


@pytest.fixture
async def live(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=10) as client:
        yield client
