"""What a client says and hears, byte for byte; nothing in here knows which server answers."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx

from tests.waiting import until

BOUND_S = 30.0
"""Nothing is waited for longer than this."""

UNKNOWN = "00000000-0000-4000-8000-000000000000"
FRAME = re.compile(rb"event: ([^\r\n]+)\r\ndata: ([^\r\n]*)(?:\r\nid: ([^\r\n]+))?\r\n\r\n")
HEARTBEAT = b": heartbeat\r\n\r\n"
END = b"\r\n\r\n"


@dataclass(frozen=True)
class Frame:
    """One event of a stream."""

    name: str
    data: Any
    id: str | None
    raw: bytes


class Listening:
    """An open event stream, read frame by frame."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.heard: list[Frame] = []
        self.heartbeats = 0
        self._chunks = response.aiter_raw()
        self._buffer = bytearray()

    async def next(self) -> Frame | None:
        """The next event, None at the end of the stream."""
        async with asyncio.timeout(BOUND_S):
            searched = 0
            while True:
                end = self._buffer.find(END, searched)
                if end >= 0:
                    raw = bytes(self._buffer[: end + len(END)])
                    del self._buffer[: end + len(END)]
                    if raw != HEARTBEAT:
                        return self._parsed(raw)
                    self.heartbeats += 1
                    searched = 0
                    continue
                searched = max(0, len(self._buffer) - len(END))
                chunk = await anext(self._chunks, None)
                if chunk is None:
                    assert not self._buffer, f"the stream ended inside {self._buffer[:200]!r}"
                    return None
                self._buffer += chunk

    def _parsed(self, raw: bytes) -> Frame:
        match = FRAME.fullmatch(raw)
        assert match is not None, f"no event in the frame {raw[:200]!r}"
        frame = Frame(
            match[1].decode(), json.loads(match[2]), match[3].decode() if match[3] else None, raw
        )
        self.heard.append(frame)
        return frame

    async def until(
        self, name: str | None = None, holds: Callable[[Any], bool] = lambda data: True
    ) -> Frame:
        """Reads on to the first event that is called so and whose data are so."""
        while (frame := await self.next()) is not None:
            if (name is None or frame.name == name) and holds(frame.data):
                return frame
        raise AssertionError(f"ended without {name}: {[f.name for f in self.heard]}")

    async def heartbeat(self) -> None:
        """Reads raw bytes up to the next comment."""
        async with asyncio.timeout(BOUND_S):
            while HEARTBEAT not in self._buffer:
                self._buffer += await anext(self._chunks)
        assert self._buffer.startswith(HEARTBEAT)

    async def rest(self) -> list[Frame]:
        """Everything that is left, up to the end."""
        frames = []
        while (frame := await self.next()) is not None:
            frames.append(frame)
        return frames


class Talk:
    """A client without an SDK."""

    def __init__(self, http: httpx.AsyncClient, prefix: str = "") -> None:
        self.http = http
        self.prefix = prefix
        self._begun: list[tuple[str, str]] = []

    async def leave(self) -> None:
        """Cancels what was left running, so that it takes no place from the next scenario."""
        begun, self._begun = self._begun, []
        await asyncio.gather(*(self.cancel(*run) for run in begun))

    async def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        async with asyncio.timeout(BOUND_S):
            return await self.http.request(method, self.prefix + path, **options)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.call("GET", path, **options)

    async def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return await self.call("POST", path, json=body, **options)

    async def patch(self, path: str, body: Any) -> httpx.Response:
        return await self.call("PATCH", path, json=body)

    async def delete(self, path: str) -> httpx.Response:
        return await self.call("DELETE", path)

    async def new_thread(self, **body: Any) -> str:
        return ok(await self.post("/threads", body))["thread_id"]

    async def create(self, thread_id: str | None, graph: str, **body: Any) -> dict[str, Any]:
        """A background run."""
        where = f"/threads/{thread_id}/runs" if thread_id else "/runs"
        return ok(await self.post(where, {"assistant_id": graph, **body}))

    async def wait(self, thread_id: str | None, graph: str, **body: Any) -> Any:
        where = f"/threads/{thread_id}/runs/wait" if thread_id else "/runs/wait"
        return ok(await self.post(where, {"assistant_id": graph, **body}))

    async def join(self, thread_id: str, run_id: str) -> Any:
        return ok(await self.get(f"/threads/{thread_id}/runs/{run_id}/join"))

    async def join_json(self, thread_id: str, run_id: str) -> Any:
        """As `join`, where a join is a stream unless JSON is asked for."""
        path = f"/threads/{thread_id}/runs/{run_id}/join"
        return ok(await self.get(path, headers={"accept": "application/json"}))

    async def run(self, thread_id: str, run_id: str) -> dict[str, Any]:
        return ok(await self.get(f"/threads/{thread_id}/runs/{run_id}"))

    async def status(self, thread_id: str, run_id: str) -> str:
        """A run's status; ``deleted`` when it is not there."""
        answer = await self.get(f"/threads/{thread_id}/runs/{run_id}")
        return "deleted" if answer.status_code == 404 else ok(answer)["status"]

    async def thread(self, thread_id: str) -> dict[str, Any]:
        return ok(await self.get(f"/threads/{thread_id}"))

    async def state(self, thread_id: str) -> dict[str, Any]:
        return ok(await self.get(f"/threads/{thread_id}/state"))

    async def history(self, thread_id: str, limit: int = 100) -> list[dict[str, Any]]:
        return ok(await self.post(f"/threads/{thread_id}/history", {"limit": limit}))

    async def cancel(self, thread_id: str, run_id: str, **query: Any) -> httpx.Response:
        return await self.post(f"/threads/{thread_id}/runs/{run_id}/cancel", params=query)

    @asynccontextmanager
    async def listening(
        self, method: str, path: str, body: Any = None, **options: Any
    ) -> AsyncIterator[Listening]:
        """An open stream; leaving it closes the connection."""
        async with self.http.stream(
            method, self.prefix + path, json=body, timeout=BOUND_S, **options
        ) as response:
            if response.status_code != 200:
                await response.aread()
                raise AssertionError(f"{response.status_code}: {response.text[:300]}")
            yield Listening(response)

    @asynccontextmanager
    async def streaming(
        self, thread_id: str | None, graph: str, **body: Any
    ) -> AsyncIterator[Listening]:
        """A run of one's own, streamed."""
        where = f"/threads/{thread_id}/runs/stream" if thread_id else "/runs/stream"
        async with self.listening("POST", where, {"assistant_id": graph, **body}) as stream:
            yield stream

    async def streamed(self, thread_id: str | None, graph: str, **body: Any) -> list[Frame]:
        async with self.streaming(thread_id, graph, **body) as stream:
            return await stream.rest()

    @asynccontextmanager
    async def joining(
        self, thread_id: str, run_id: str, after: str | None = None, **query: Any
    ) -> AsyncIterator[Listening]:
        headers = {} if after is None else {"last-event-id": after}
        path = f"/threads/{thread_id}/runs/{run_id}/stream"
        async with self.listening("GET", path, headers=headers, params=query) as stream:
            yield stream

    async def joined(
        self, thread_id: str, run_id: str, after: str | None = None, **query: Any
    ) -> list[Frame]:
        async with self.joining(thread_id, run_id, after, **query) as stream:
            return await stream.rest()

    async def running(self, thread_id: str, graph: str = "slow", **body: Any) -> str:
        """A run that has done its first step; its id."""
        body = {
            "input": SLOW,
            "stream_mode": "values",
            "on_disconnect": "continue",
            **body,
        }
        async with self.streaming(thread_id, graph, **body) as stream:
            await stream.until("values", lambda data: data.get("i", 0) >= 1)
            run_id = stream.heard[0].data["run_id"]
            self._begun.append((thread_id, run_id))
            return run_id

    async def settled(self, thread_id: str) -> dict[str, Any]:
        """The thread once no run is on it."""

        async def rests() -> dict[str, Any] | None:
            thread = await self.thread(thread_id)
            return thread if thread["status"] != "busy" else None

        return await until(rests, within_s=BOUND_S)

    async def ended(self, thread_id: str, run_id: str) -> str:
        """A run's last status, once it is that."""

        async def over() -> str | None:
            status = await self.status(thread_id, run_id)
            return status if status not in ("pending", "running") else None

        return await until(over, within_s=BOUND_S)


SLOW = {"steps": 400, "delay": 0.05}
"""Input for the graph ``slow``: twenty seconds, so that nobody waits for its end by mistake."""

BRIEF = {"steps": 6, "delay": 0.05}


def ok(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, f"{answer.request.url}: {answer.status_code} {answer.text}"
    return answer.json()


def refused(answer: httpx.Response, *statuses: int) -> str:
    """The sentence of a refusal."""
    assert answer.status_code in statuses, f"{answer.status_code} {answer.text[:300]}"
    detail = answer.json()["detail"]
    assert isinstance(detail, str)
    assert set(answer.json()) == {"detail"}
    return detail


def names(frames: list[Frame]) -> list[str]:
    return [frame.name for frame in frames]


def uuid() -> str:
    return str(uuid4())


def without(record: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in keys}
