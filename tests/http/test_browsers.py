"""Pages of other origins, strange names of this machine, and requests that do not end."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import replace
from typing import Any

import httpx
import pytest
from starlette.types import Message

from greenroom.core.addresses import is_loopback
from greenroom.core.edge_rules import Cors, HttpRules
from greenroom.http.app import create_app
from greenroom.http.settings import HttpSettings
from tests.http.conftest import serving
from tests.http.edge_doubles import GRAPHS, MemoryRecords, MemoryRuntime

LOCAL = HttpSettings(hosts=frozenset({"graphs.internal"}))
STRANGER = "https://stranger.example"


@functools.cache
def app_of(cors: Cors | None = None, settings: HttpSettings = LOCAL) -> Any:
    records = MemoryRecords()
    return create_app(
        runtime=MemoryRuntime(records),
        records=records,
        graphs=GRAPHS,
        rules=HttpRules(cors=cors),
        settings=settings,
    )


async def ask(
    path: str = "/ok",
    *,
    method: str = "GET",
    cors: Cors | None = None,
    settings: HttpSettings = LOCAL,
    body: bytes | None = None,
    **headers: str,
) -> httpx.Response:
    transport = httpx.ASGITransport(app_of(cors, settings))
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        return await client.request(method, path, content=body, headers=named)


async def preflight(origin: str, **given: Any) -> httpx.Response:
    return await ask(
        "/threads",
        method="OPTIONS",
        origin=origin,
        access_control_request_method="POST",
        access_control_request_headers="content-type",
        **given,
    )


def allowed(answer: httpx.Response) -> str | None:
    return answer.headers.get("access-control-allow-origin")


# --- Host -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:8000",
        "localhost:1",
        "LOCALHOST",
        "localhost.",
        "a.localhost",
        "[::1]:8000",
        "127.1.2.3",
        "graphs.internal",
        "Graphs.Internal:80",
    ],
)
@pytest.mark.parametrize("path", ["/ok", "/api/ok"])
async def test_a_server_on_loopback_answers_by_the_names_of_this_machine(
    host: str, path: str
) -> None:
    assert (await ask(path, host=host)).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "0.0.0.0",
        "[::ffff:1.2.3.4]",
        "2130706433",
        "graphs.internal.evil",
        "[",
        "",
    ],
)
async def test_a_strange_host_is_refused_on_loopback(host: str) -> None:
    answer = await ask(host=host)
    assert answer.status_code == 403
    assert "GREENROOM_ALLOWED_HOSTS" in answer.json()["detail"]


async def test_a_server_of_the_network_answers_to_every_host() -> None:
    assert (await ask(settings=HttpSettings(), host="evil.example")).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.9.9.9"])
def test_addresses_of_this_machine_are_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", "*", "localhost.x"])
def test_others_are_not(host: str) -> None:
    assert not is_loopback(host)


# --- Origin ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin", ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:1", "http://a.localhost"]
)
async def test_pages_of_this_machine_may_do_everything(origin: str) -> None:
    answer = await ask(
        "/threads", method="POST", body=b"{}", origin=origin, content_type="application/json"
    )
    assert (answer.status_code, allowed(answer)) == (200, origin)
    assert "content-location" in answer.headers["access-control-expose-headers"]
    assert (await preflight(origin)).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        STRANGER,
        "null",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "https://localhost@evil.example",
        "http://127.0.0.1:80x",
        "file://",
    ],
)
async def test_pages_of_strangers_read_nothing_and_change_nothing(origin: str) -> None:
    read = await ask(origin=origin)
    assert (read.status_code, allowed(read)) == (200, None)
    assert (await preflight(origin)).status_code == 400
    for path in ("/threads", "/runs/cancel", "/threads/x/copy"):
        answer = await ask(path, method="POST", origin=origin)
        assert (answer.status_code, allowed(answer)) == (403, None)
        assert "http.cors.allow_origins" in answer.json()["detail"]


async def test_pages_that_the_configuration_names_are_no_strangers() -> None:
    named = Cors(allow_origins=(STRANGER,), allow_origin_regex=r"https://.*\.example\.com")
    for origin in (STRANGER, "https://a.example.com", "http://localhost:3000"):
        answer = await ask(
            "/threads",
            method="POST",
            cors=named,
            body=b"{}",
            origin=origin,
            content_type="application/json",
        )
        assert (answer.status_code, allowed(answer)) == (200, origin)
    other = await ask("/threads", method="POST", cors=named, body=b"{}", origin="https://x.example")
    assert other.status_code == 403


async def test_a_socket_of_a_strangers_page_is_refused() -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "path": "/x",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"origin", STRANGER.encode())],
    }
    await app_of()(scope, receive, send)
    assert [(m["type"], m["code"]) for m in sent] == [("websocket.close", 1008)]


# --- cors -----------------------------------------------------------------------------------------


async def test_absent_keys_of_cors_have_the_servers_own_values() -> None:
    open_ = HttpSettings()
    cors = Cors(allow_origins=(STRANGER,))
    answer = await preflight(STRANGER, cors=cors, settings=open_)
    assert (answer.status_code, allowed(answer)) == (200, STRANGER)
    assert "PATCH" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "content-type"
    read = await ask(cors=cors, settings=open_, origin=STRANGER)
    assert "content-location" in read.headers["access-control-expose-headers"]
    assert (await preflight("https://x.example", cors=cors, settings=open_)).status_code == 400


async def test_every_key_of_cors_is_honoured() -> None:
    cors = Cors(
        allow_origins=(STRANGER,),
        allow_methods=("GET", "POST"),
        allow_headers=("x-one",),
        allow_credentials=True,
        expose_headers=("x-two",),
        max_age_s=77,
    )
    answer = await preflight(STRANGER, cors=cors)
    assert answer.headers["access-control-allow-methods"] == "GET, POST"
    assert "x-one" in answer.headers["access-control-allow-headers"]
    assert answer.headers["access-control-max-age"] == "77"
    assert answer.headers["access-control-allow-credentials"] == "true"
    read = await ask(cors=cors, origin=STRANGER)
    assert read.headers["access-control-expose-headers"] == "x-two"
    assert read.headers["access-control-allow-credentials"] == "true"


async def test_cookies_are_never_taken_from_pages_of_every_origin() -> None:
    cors = Cors(allow_origins=("*",), allow_credentials=True)
    for settings in (LOCAL, HttpSettings()):
        answer = await ask(cors=cors, settings=settings, origin=STRANGER, cookie="a=b")
        assert allowed(answer) == "*"
        assert "access-control-allow-credentials" not in answer.headers


# --- bodies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "", "a/b+json"]
)
@pytest.mark.parametrize("settings", [LOCAL, HttpSettings()])
async def test_a_page_says_that_its_body_is_json(kind: str, settings: HttpSettings) -> None:
    answer = await ask(
        "/threads",
        method="POST",
        settings=settings,
        body=b"{}",
        origin="http://localhost",
        content_type=kind,
    )
    assert answer.status_code == 415
    assert "content-type: application/json" in answer.json()["detail"]


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/JSON"])
async def test_a_page_that_says_so_is_answered(kind: str) -> None:
    given = {"origin": "http://localhost", "content_type": kind}
    assert (await ask("/threads", method="POST", body=b"{}", **given)).status_code == 200


async def test_programs_need_not_say_that_their_body_is_json() -> None:
    answer = await ask("/threads", method="POST", body=b"{}", content_type="text/plain")
    assert answer.status_code == 200


async def test_a_body_that_does_not_go_on_is_cut() -> None:
    """On a socket: nothing tells the server that its client waits for ever."""
    async with serving(app_of(settings=replace(LOCAL, silence_s=0.05))) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
        writer.write(b"POST /threads HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{")
        async with asyncio.timeout(20):
            answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"nothing came for 0.05 s" in answer
