"""Streams and waits over a real socket: bytes, heartbeats, joiners, and clients that go away."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest

from greenroom.core.errors import BadRequest, Unavailable
from greenroom.core.events import EventLog
from greenroom.http import sending
from greenroom.http.app import drain
from greenroom.http.following import NEVER, cursor_for
from greenroom.http.settings import HttpSettings
from tests.http.edge_doubles import RUN, THREAD, UNKNOWN

RUNS = f"/threads/{THREAD}/runs"
JOIN = f"{RUNS}/{RUN}/stream"
BOUND_S = 30.0
QUIET = HttpSettings(heartbeat_s=60)


async def within(awaitable):
    return await asyncio.wait_for(awaitable, BOUND_S)


@pytest.fixture(autouse=True)
def thread(records):
    records.add_thread()


@pytest.fixture
def running(records, runtime):
    def start(**record) -> None:
        records.add_run(**record)
        runtime.begin(RUN)

    return start


async def read_until(response: httpx.Response, wanted: bytes) -> bytes:
    body = b""
    async for chunk in response.aiter_raw():
        body += chunk
        if wanted in body:
            break
    return body


class TestWithoutHeartbeats:
    @pytest.fixture
    def settings(self) -> HttpSettings:
        return QUIET

    async def test_a_creators_stream_has_the_bytes_and_headers_of_the_reference(
        self, live, runtime
    ):
        body = {"assistant_id": "counter", "input": {"count": 0}}
        async with live.stream("POST", f"{RUNS}/stream", json=body) as response:
            run_id = runtime.requests[0].run_id
            runtime.emit(run_id, "values", {"count": 0, "log": []})
            runtime.emit(run_id, "values", {"count": 1, "log": ["one"]})
            runtime.finish(run_id)
            received = await within(response.aread())
        metadata = b'event: metadata\r\ndata: {"run_id":"%b","attempt":1}\r\n\r\n'
        assert received == (
            metadata % run_id.encode()
            + b'event: values\r\ndata: {"count":0,"log":[]}\r\n\r\n'
            + b'event: values\r\ndata: {"count":1,"log":["one"]}\r\n\r\n'
        )
        headers = [(k, v) for k, v in response.headers.items() if k not in ("date", "server")]
        assert headers == [
            ("location", f"{RUNS}/{run_id}/stream"),
            ("content-location", f"{RUNS}/{run_id}"),
            ("cache-control", "no-store"),
            ("connection", "keep-alive"),
            ("x-accel-buffering", "no"),
            ("content-type", "text/event-stream; charset=utf-8"),
            ("vary", "Origin"),
            ("transfer-encoding", "chunked"),
        ]

    async def test_a_resumable_stream_has_ids(self, live, runtime):
        body = {"assistant_id": "counter", "stream_resumable": True}
        async with live.stream("POST", f"{RUNS}/stream", json=body) as response:
            runtime.finish(runtime.requests[0].run_id)
            received = await within(response.aread())
        assert received.endswith(b"\r\nid: 1795329693413-4294967296\r\n\r\n")

    async def test_headers_come_before_the_run_has_said_anything(self, live, runtime):
        """The response is entered although the run never emits: its headers were sent at once."""
        body = {"assistant_id": "counter"}
        async with live.stream("POST", "/runs/wait", json=body) as response:
            (request,) = runtime.requests
            path = f"/threads/{request.thread_id}/runs/{request.run_id}"
            assert response.headers["content-location"] == path
            runtime.finish(request.run_id, 1)
            assert await within(response.aread()) == b"1"

    async def test_a_stateless_stream_names_no_thread(self, live, runtime):
        async with live.stream("POST", "/runs/stream", json={"assistant_id": "counter"}) as answer:
            run_id = runtime.requests[0].run_id
            assert answer.headers["location"] == f"/runs/{run_id}/stream"
            assert answer.headers["content-location"] == f"/runs/{run_id}"
            runtime.finish(run_id)
            await within(answer.aread())

    async def test_a_stateless_location_can_be_joined(self, live, running, runtime):
        running(status="pending")
        runtime.finish(RUN)
        runtime.records.runs[RUN]["status"] = "pending"
        answer = await live.get(f"/runs/{RUN}/stream")
        assert answer.content.startswith(b"event: metadata\r\n")
        assert (await live.get(f"/runs/{UNKNOWN}/stream")).status_code == 404

    async def test_a_joiner_in_mid_run_gets_only_what_comes(self, live, running, runtime):
        running()
        async with live.stream("GET", JOIN) as response:
            await within(runtime.opened.wait())
            await asyncio.sleep(0)
            runtime.emit(RUN, "values", {"n": 1})
            runtime.finish(RUN)
            assert await within(response.aread()) == b'event: values\r\ndata: {"n":1}\r\n\r\n'
        assert response.headers["location"] == JOIN
        assert response.headers["content-location"] == f"{RUNS}/{RUN}"

    async def test_a_resumable_run_replays_from_the_start_or_after_an_id(
        self, live, running, runtime
    ):
        running(resumable=True)
        runtime.emit(RUN, "values", {"n": 1})
        runtime.finish(RUN)
        everything = (await live.get(JOIN, headers={"last-event-id": "-1"})).text
        assert [line for line in everything.split("\r\n") if line.startswith("event")] == [
            "event: metadata",
            "event: values",
        ]
        first_id = everything.split("id: ")[1].split("\r\n")[0]
        rest = (await live.get(JOIN, headers={"last-event-id": first_id})).text
        assert rest.startswith('event: values\r\ndata: {"n":1}\r\nid: ')
        assert (await live.get(JOIN)).content == b""
        assert (await live.get(JOIN, headers={"last-event-id": "junk"})).content == b""

    @pytest.mark.parametrize(
        "query",
        [
            "stream_mode=updates&stream_mode=values",
            'stream_mode=["updates","values"]',
            "stream_mode=updates,values",
        ],
    )
    async def test_a_filter_in_any_encoding_drops_metadata_too(self, live, running, runtime, query):
        running(resumable=True)
        runtime.emit(RUN, "custom", 1)
        runtime.emit(RUN, "values", 1)
        runtime.finish(RUN)
        answer = await live.get(f"{JOIN}?{query}", headers={"last-event-id": "0"})
        assert answer.text.count("event:") == 1
        assert answer.text.startswith("event: values\r\n")
        assert runtime.follows[0]["modes"] == {"updates", "values"}

    async def test_empty_query_values_are_absent(self, live, running, runtime):
        running(status="pending")
        runtime.finish(RUN)
        runtime.records.runs[RUN]["status"] = "pending"
        answer = await live.get(f"{JOIN}?stream_mode=&cancel_on_disconnect=")
        assert answer.status_code == 200
        assert runtime.follows[0]["modes"] is None

    async def test_an_unknown_run_or_mode_is_refused_before_the_stream(self, live, running):
        running()
        assert (await live.get(f"{RUNS}/{UNKNOWN}/stream")).status_code == 404
        assert (await live.get(f"{RUNS}/{UNKNOWN}/join")).status_code == 404
        answer = await live.get(f"{JOIN}?stream_mode=bogus")
        assert (answer.status_code, answer.json()) == (
            422,
            {"detail": "Invalid stream mode: bogus"},
        )

    async def test_join_is_json_on_one_mount_and_a_stream_on_the_other(
        self, live, running, runtime
    ):
        running()
        runtime.finish(RUN, {"count": 3})
        joined = f"{RUNS}/{RUN}/join"
        answer = await live.get(joined)
        assert (answer.json(), answer.headers["location"]) == ({"count": 3}, joined)
        answer = await live.get(f"/api{joined}")
        assert answer.headers["content-type"].startswith("text/event-stream")
        answer = await live.get(f"/api{joined}", headers={"accept": "application/json"})
        assert answer.json() == {"count": 3}

    @pytest.mark.parametrize(
        ("path", "on_disconnect", "cancelled"),
        [
            ("/stream", "cancel", True),
            ("/wait", "cancel", True),
            ("/stream", None, False),
            ("/wait", "continue", False),
        ],
    )
    async def test_a_creator_that_leaves_stops_its_run_only_if_it_asked_for_that(
        self, app, live, runtime, path, on_disconnect, cancelled
    ):
        """The client closes while the run is silent: nothing is sent that could fail."""
        body = {"assistant_id": "counter", "on_disconnect": on_disconnect}
        async with live.stream("POST", RUNS + path, json=body):
            await within(runtime.opened.wait())
        await within(runtime.closed.wait())
        if cancelled:
            await within(runtime.cancelled.wait())
            assert runtime.cancels[0][0].run_id == runtime.requests[0].run_id
        await _quiet(app)
        assert len(runtime.cancels) == cancelled

    async def test_the_gateway_mount_cancels_by_default(self, app, live, runtime):
        async with live.stream("POST", f"/api{RUNS}/stream", json={"assistant_id": "counter"}):
            await within(runtime.opened.wait())
        await within(runtime.cancelled.wait())
        await _quiet(app)

    async def test_a_disconnect_is_seen_within_milliseconds(self, app, live, runtime):
        async with live.stream("POST", f"{RUNS}/stream", json={"assistant_id": "counter"}):
            await within(runtime.opened.wait())
        left = asyncio.get_running_loop().time()
        await within(runtime.closed.wait())
        assert asyncio.get_running_loop().time() - left < 0.25
        await _quiet(app)

    async def test_a_second_viewer_that_leaves_does_not_stop_the_firsts_run(
        self, app, live, running, runtime
    ):
        running()
        async with live.stream("GET", JOIN):
            await within(runtime.opened.wait())
        await within(runtime.closed.wait())
        await _quiet(app)
        assert runtime.cancels == []

    @pytest.mark.parametrize("value", ["1", "true"])
    async def test_a_joiner_may_ask_that_its_leaving_cancels(
        self, app, live, running, runtime, value
    ):
        running()
        async with live.stream("GET", f"{JOIN}?cancel_on_disconnect={value}"):
            await within(runtime.opened.wait())
        await within(runtime.cancelled.wait())
        await _quiet(app)

    async def test_a_run_that_ended_is_not_cancelled_by_its_client_leaving(
        self, app, live, runtime
    ):
        body = {"assistant_id": "counter", "on_disconnect": "cancel"}
        async with live.stream("POST", f"{RUNS}/stream", json=body) as response:
            runtime.finish(runtime.requests[0].run_id)
            await within(response.aread())
        await _quiet(app)
        assert runtime.cancels == []

    async def test_draining_breaks_streams_off_without_cancelling_their_runs(
        self, app, live, runtime
    ):
        body = {"assistant_id": "counter", "on_disconnect": "cancel"}
        async with live.stream("POST", f"{RUNS}/stream", json=body) as response:
            await within(runtime.opened.wait())
            drain(app)
            with pytest.raises(httpx.RemoteProtocolError):
                await within(response.aread())
        await _quiet(app)
        assert runtime.cancels == []

    async def test_a_stream_breaks_when_a_part_restarts_so_that_the_client_reconnects(
        self, live, running, runtime
    ):
        running()
        runtime.fail = Unavailable("The registry is restarting.")
        with pytest.raises(httpx.RemoteProtocolError):
            await within(live.get(JOIN))

    async def test_a_bug_in_the_source_breaks_the_stream_and_shows_nothing(
        self, live, running, runtime
    ):
        running()
        runtime.fail = OSError("secret")
        with pytest.raises(httpx.RemoteProtocolError):
            await within(live.get(JOIN))
        assert runtime.cancels == []

    async def test_other_errors_of_a_stream_are_its_last_event(self, live, running, runtime):
        running()
        runtime.fail = BadRequest("No.")
        answer = await live.get(JOIN)
        assert answer.content == (
            b'event: error\r\ndata: {"error":"BadRequest","message":"No."}\r\n\r\n'
        )

    async def test_a_slow_client_slows_the_source(self, app, live, runtime, records):
        """Nobody reads: what is asked of the source stays far below what it has to give."""
        given = 0
        chunk = b": x\r\n\r\n" * 10_000

        async def endless(thread_id, *, after, modes, scope):
            nonlocal given
            runtime.open += 1
            try:
                while True:
                    given += 1
                    yield chunk
            finally:
                runtime.open -= 1
                runtime.closed.set()

        runtime.thread_events = endless
        async with live.stream("GET", f"/threads/{THREAD}/stream"):
            seen = -1
            while seen != given:
                seen = given
                await asyncio.sleep(0.1)  # until the socket's buffers are full
            assert given < 500
        await within(runtime.closed.wait())
        await _quiet(app)


class TestTheClock:
    async def test_an_idle_stream_says_that_it_lives(self, app, live, running, runtime):
        running()
        async with live.stream("GET", JOIN) as response:
            body = await within(read_until(response, b": heartbeat\r\n\r\n: heartbeat\r\n\r\n"))
        assert body == b": heartbeat\r\n\r\n" * (len(body) // 15)
        await _quiet(app)

    async def test_a_wait_sends_new_lines_until_its_json(self, live, runtime):
        body = {"assistant_id": "counter"}
        async with live.stream("POST", f"{RUNS}/wait", json=body) as response:
            received = b""
            async for chunk in response.aiter_raw():
                if not received:
                    runtime.finish(runtime.requests[0].run_id, {"count": 3})
                received += chunk
        assert received.startswith(b"\n")
        assert received.lstrip(b"\n") == b'{"count":3}'

    async def test_a_cancel_that_takes_long_keeps_its_connection_alive(
        self, live, running, runtime
    ):
        running()
        runtime.stopped.clear()
        cancel = f"{RUNS}/{RUN}/cancel?wait=true"
        async with live.stream("POST", cancel) as response:
            assert response.status_code == 200
            runtime.stopped.set()
            received = await within(response.aread())
        assert received.lstrip(b"\n") == b"{}"
        assert response.headers["location"] == f"{RUNS}/{RUN}/join"


async def test_a_threads_stream_forwards_frames_and_stays_open(app, live, runtime):
    runtime.thread_frames = [b"event: metadata\r\ndata: {}\r\nid: 1-0\r\n\r\n"]
    path = f"/threads/{UNKNOWN}/stream?stream_modes=run_modes,state_update"
    async with live.stream("GET", path, headers={"last-event-id": "5-1"}) as response:
        assert "location" not in response.headers
        body = await within(read_until(response, b": heartbeat\r\n\r\n"))
    assert body.startswith(runtime.thread_frames[0])
    assert runtime.follows[0]["modes"] == {"run_modes", "state_update"}
    assert runtime.follows[0]["after"] == "5-1"
    await _quiet(app)


@pytest.mark.parametrize(
    ("query", "header", "sentence"),
    [
        ("stream_modes=bogus", None, "Invalid stream mode: bogus"),
        ("", "-1", "Invalid last-event-id: must be a valid Redis stream ID"),
    ],
)
async def test_a_threads_stream_refuses_what_it_does_not_know(client, query, header, sentence):
    headers = {"last-event-id": header} if header else {}
    answer = await client.get(f"/threads/{THREAD}/stream?{query}", headers=headers)
    assert (answer.status_code, answer.json()) == (422, {"detail": sentence})


@pytest.mark.parametrize(
    ("status", "resumable", "header", "after"),
    [
        ("pending", False, None, 0),
        ("pending", False, "-1", 0),
        ("pending", True, "7-9", 9),
        ("running", False, None, -1),
        ("running", False, "-1", -1),
        ("running", False, "junk", -1),
        ("running", True, None, -1),
        ("running", True, "-1", 0),
        ("running", True, "7-9", 9),
        ("running", True, "junk", NEVER),
        ("success", False, "-1", None),
        ("success", True, None, None),
        ("success", True, "0", 0),
        ("error", True, "7-9", 9),
        ("timeout", True, "junk", None),
    ],
)
def test_where_a_joiner_begins(status, resumable, header, after):
    assert cursor_for(status, resumable, header) == after


async def test_a_server_that_cancels_the_request_is_a_client_that_left(app, runtime):
    """Some servers cancel the task of a request instead of sending http.disconnect."""
    sent = asyncio.Event()
    body = b'{"assistant_id":"counter","on_disconnect":"cancel"}'
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        if messages:
            return messages.pop()
        await asyncio.Event().wait()

    async def send(message):
        sent.set()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST",
        "path": f"{RUNS}/stream",
        "raw_path": b"",
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "scheme": "http",
        "server": ("edge", 80),
        "client": None,
    }
    request = asyncio.create_task(app(scope, receive, send))
    await within(runtime.opened.wait())
    request.cancel()
    with suppress(asyncio.CancelledError):
        await request
    await within(runtime.cancelled.wait())
    await _quiet(app)


async def _quiet(app) -> None:
    """Waits until nothing is open any more, which the fixture then asserts."""
    await within(app.state.edge.connections.until_idle())


# --- clients that do not read ---------------------------------------------------------------------


@asynccontextmanager
async def deaf(url: str, path: str) -> AsyncIterator[socket.socket]:
    """A client that asks and reads nothing, with little room in between."""
    host, _, port = url.removeprefix("http://").partition(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_connect(connection, (host, int(port)))
        await loop.sock_sendall(connection, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        yield connection
    finally:
        connection.close()


async def drained(connection: socket.socket) -> bytes:
    """All that comes up to the end, however that comes."""
    loop, parts = asyncio.get_running_loop(), []
    with suppress(ConnectionError):
        while part := await loop.sock_recv(connection, 1 << 20):
            parts.append(part)
    return b"".join(parts)


class TestClientsThatDoNotRead:
    @pytest.fixture
    def settings(self) -> HttpSettings:
        return HttpSettings(send_timeout_s=0.3)

    async def test_it_is_cut_and_its_run_goes_on(self, url, live, running, runtime):
        """What is sent is more than all buffers on the way."""
        running()
        log = runtime.logs[RUN] = EventLog(1, 1 << 30)
        async with deaf(url, f"{JOIN}?cancel_on_disconnect=true") as connection:
            await within(runtime.opened.wait())
            await asyncio.sleep(0)
            for _ in range(200):
                runtime.emit(RUN, "values", "x" * 65_536)
            await asyncio.wait_for(runtime.closed.wait(), 30)
            heard = await asyncio.wait_for(drained(connection), 30)
        assert not heard.endswith(b"0\r\n\r\n"), "a clean end says that the run is over"
        assert len(heard) < log.size_bytes
        assert runtime.cancels == []

    async def test_an_answer_that_nobody_reads_is_broken_off(
        self, url, records, runtime, monkeypatch
    ):
        cut, break_connection = asyncio.Event(), sending.break_connection

        def breaking(scope):
            cut.set()
            break_connection(scope)

        monkeypatch.setattr(sending, "break_connection", breaking)
        records.add_thread(graph_id="counter")
        runtime.answer = b'{"values":"%b"}' % (b"x" * 20_000_000)
        async with deaf(url, f"/threads/{THREAD}/state") as connection:
            await asyncio.wait_for(cut.wait(), 30)
            heard = await asyncio.wait_for(drained(connection), 30)
        assert 0 < len(heard) < len(runtime.answer)

    async def test_a_large_answer_is_whole(self, live, records, runtime):
        records.add_thread(graph_id="counter")
        for size in (65_536, 65_537, 131_072, 300_000):
            runtime.answer = b"%b" % (b"1" * size)
            assert (await live.get(f"/threads/{THREAD}/state")).content == runtime.answer


# --- clients that leave before they are answered --------------------------------------------------


@pytest.mark.parametrize("path", [f"{RUNS}/stream", f"{RUNS}/wait", "/runs/stream", "/runs/wait"])
@pytest.mark.parametrize("choice", ["cancel", "continue"])
async def test_whoever_leaves_while_its_run_is_admitted_has_left_it(client, runtime, path, choice):
    """The server cancels the request; the registry has the run already, and answers later."""
    admitting, admitted, create = asyncio.Event(), asyncio.Event(), runtime.create

    async def slowly(request):
        admitting.set()
        await admitted.wait()
        return await create(request)

    runtime.create = slowly
    body = {"assistant_id": "counter", "input": {}, "on_disconnect": choice}
    asking = asyncio.create_task(client.post(path, json=body))
    await within(admitting.wait())
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    admitted.set()
    await within(client._transport.app.state.edge.connections.until_idle())
    cancelled = [request.run_id for request, _ in runtime.cancels]
    assert cancelled == ([runtime.requests[0].run_id] if choice == "cancel" else [])


async def test_a_joiner_that_leaves_while_its_run_is_looked_up_has_left_it(
    client, runtime, records
):
    records.add_run()
    looking = asyncio.Event()

    async def for_ever(thread_id, run_id, *, scope):
        looking.set()
        await asyncio.Event().wait()

    records.get_run = for_ever
    asking = asyncio.create_task(client.get(f"{JOIN}?cancel_on_disconnect=1"))
    await within(looking.wait())
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await within(client._transport.app.state.edge.connections.until_idle())
    assert [request.run_id for request, _ in runtime.cancels] == [RUN]
