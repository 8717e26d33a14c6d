"""Requests that mean nothing get a 4xx and a sentence, never a 5xx."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.conformance.talking import Talk, ok, refused, uuid

POSTS = ["/threads", "/threads/search", "/threads/count", "/assistants/search", "/runs/cancel"]
RUNS = ["/runs", "/runs/stream", "/runs/wait"]
JSON = {"content-type": "application/json"}


async def sent(talk: Talk, path: str, content: bytes) -> httpx.Response:
    return await talk.call("POST", path, content=content, headers=JSON)


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"{'a': 1}", b'{"a": NaN}'], ids=repr)
async def test_what_is_no_json_is_refused(talk: Talk, thread_id: str, content: bytes) -> None:
    paths = [*POSTS, *RUNS, *(f"/threads/{thread_id}{end}" for end in RUNS)]
    for answer in await asyncio.gather(*(sent(talk, path, content) for path in paths)):
        assert refused(answer, 422) == "Invalid JSON in request body"


@pytest.mark.parametrize("content", [b"[]", b"7", b'"x"', b"null", b"true"], ids=repr)
async def test_a_body_that_is_no_object_is_refused(
    talk: Talk, thread_id: str, content: bytes
) -> None:
    paths = [*POSTS, *RUNS, *(f"/threads/{thread_id}{end}" for end in RUNS)]
    for answer in await asyncio.gather(*(sent(talk, path, content) for path in paths)):
        refused(answer, 422)


@pytest.mark.parametrize(
    "path",
    [
        "/threads/x",
        "/threads/x/runs",
        "/threads/x/state",
        "/threads/x/history",
        "/threads/x/stream",
        "/threads/x/runs/y",
    ],
)
async def test_an_id_that_is_no_uuid_is_refused(talk: Talk, path: str) -> None:
    assert refused(await talk.get(path), 422).startswith("Invalid thread ID")


async def test_a_run_id_that_is_no_uuid_is_refused(talk: Talk, thread_id: str) -> None:
    for end in ("", "/join", "/stream"):
        answer = await talk.get(f"/threads/{thread_id}/runs/y{end}")
        assert refused(answer, 422).startswith("Invalid run ID")


@pytest.mark.parametrize("end", ["/runs/wait", "/runs/stream", "/copy"])
async def test_an_id_that_is_no_uuid_is_refused_alike_everywhere(talk: Talk, end: str) -> None:
    answer = await talk.post(f"/threads/x{end}", {"assistant_id": "trivial"})
    assert refused(answer, 422) == "Invalid thread ID: must be a UUID"


async def test_an_id_in_capitals_is_the_same_thread(talk: Talk) -> None:
    thread_id = await talk.new_thread()
    assert (await talk.thread(thread_id.upper()))["thread_id"] == thread_id


async def test_an_unknown_path_is_not_found(talk: Talk) -> None:
    assert refused(await talk.get("/nope"), 404) == "Not Found"


async def test_a_wrong_method_is_told(talk: Talk) -> None:
    answer = await talk.call("PUT", "/threads")
    assert refused(answer, 405) == "Method Not Allowed"
    assert "POST" in answer.headers["allow"]


async def test_deep_nesting_is_refused_and_harms_nobody(talk: Talk, thread_id: str) -> None:
    deep = b"[" * 5000 + b"]" * 5000
    answer = await sent(talk, "/runs/wait", b'{"assistant_id":"trivial","input":%b}' % deep)
    refused(answer, 422)
    assert ok(await talk.get("/ok"))["ok"]


async def test_a_nul_character_is_refused(talk: Talk) -> None:
    for content in (b'{"metadata":{"a":"\\u0000"}}', b'{"metadata":{"\\u0000":1}}'):
        refused(await sent(talk, "/threads", content), 422)


async def test_a_body_without_a_content_type_is_read(talk: Talk) -> None:
    answer = await talk.call("POST", "/threads", content=b'{"metadata":{"a":1}}')
    assert ok(answer)["metadata"] == {"a": 1}


async def test_a_huge_integer_in_an_input_is_no_server_error(talk: Talk) -> None:
    thread_id = uuid()
    answer = await sent(
        talk,
        f"/threads/{thread_id}/runs/wait",
        b'{"assistant_id":"trivial","if_not_exists":"create","input":{"x":%b}}' % (b"9" * 30),
    )
    assert answer.status_code < 500
