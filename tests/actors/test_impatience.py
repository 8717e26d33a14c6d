"""Requests whose head does not end, on uvicorn as Ray Serve uses it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
import uvicorn.protocols.http.auto as chosen
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from actors.gateway import impatience

BOUND_S = 20.0


@asynccontextmanager
async def listening(patience_s: float) -> AsyncIterator[int]:
    async def app(scope, receive, send) -> None:
        if scope["path"] == "/slow":
            await asyncio.sleep(3 * patience_s)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    protocol = impatience.impatient(HttpToolsProtocol, patience_s)
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, http=protocol, log_level="warning", lifespan="off"
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    loop = asyncio.create_task(server.main_loop())
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        await loop
        await server.shutdown()


@pytest.mark.parametrize("begun", [b"", b"GET /", b"GET / HTTP/1.1\r\nhost: a\r\n"])
async def test_a_connection_whose_head_does_not_end_is_cut(begun: bytes) -> None:
    async with listening(0.05) as port, asyncio.timeout(BOUND_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(begun)
        assert await reader.read() == b""
        writer.close()


async def test_a_second_request_of_a_connection_has_to_end_too() -> None:
    async with listening(0.05) as port, asyncio.timeout(BOUND_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
        writer.write(b"GET / HTTP")
        assert await reader.read() is not None
        writer.close()


async def test_an_answer_may_take_as_long_as_it_wants() -> None:
    async with listening(0.05) as port, asyncio.timeout(BOUND_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /slow HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()


def test_uvicorn_chooses_the_impatient_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen, "AutoHTTPProtocol", HttpToolsProtocol)
    assert impatience.cut_half_requests() == []
    assert impatience.cut_half_requests() == []
    config = uvicorn.Config(lambda: None, factory=True)
    config.load()
    assert issubclass(config.http_protocol_class, HttpToolsProtocol)
    assert config.http_protocol_class is not HttpToolsProtocol
