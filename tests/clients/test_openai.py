"""The official client of OpenAI, synchronous and asynchronous, with and without streams."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.later import Later
from tests.reliability.witness import process_of
from tests.serving import Served
from tests.waiting import BOUND_S, until

if TYPE_CHECKING:
    import openai
    from openai import AsyncOpenAI, OpenAI
else:
    openai = Later("openai")

MOUNTS = ("", "/api")
TOKENS = "tok0 tok1 tok2 tok3 tok4 "
WORDS = "".join(f"tok{number} " for number in range(10))
TALKATIVE = "talkative"


@pytest.fixture(params=MOUNTS, ids=("platform", "gateway"))
def base_url(request: pytest.FixtureRequest, server: Served) -> str:
    return f"{server.url}{request.param}/v1"


@pytest.fixture
def blocking(base_url: str) -> Iterator[OpenAI]:
    with openai.OpenAI(base_url=base_url, api_key="none", timeout=BOUND_S, max_retries=0) as client:
        yield client


@pytest.fixture
async def client(base_url: str) -> AsyncIterator[AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=base_url, api_key="none", timeout=BOUND_S) as client:
        yield client


@pytest.fixture
async def one(server: Served) -> AsyncIterator[AsyncOpenAI]:
    """A client of one mount."""
    base_url = f"{server.url}/v1"
    async with openai.AsyncOpenAI(base_url=base_url, api_key="none", timeout=BOUND_S) as client:
        yield client


@pytest.fixture
async def http(server: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, timeout=BOUND_S) as http:
        yield http


def said(text: str) -> list:
    return [{"role": "user", "content": text}]


def run_id_of(completion_id: str) -> str:
    return completion_id.removeprefix("chatcmpl-")


async def until_run_is(http: httpx.AsyncClient, run_id: str, status: str | None) -> None:
    """Waits until a run has a status; None: until it is gone."""

    async def has_it() -> bool:
        answer = await http.get(f"/runs/{run_id}")
        return (answer.json()["status"] if answer.status_code == 200 else None) == status

    await until(has_it, within_s=BOUND_S)


def test_a_completion_and_its_stream_say_the_same(blocking: OpenAI) -> None:
    assert TALKATIVE in [model.id for model in blocking.models.list()]
    assert blocking.models.retrieve(TALKATIVE).owned_by == "greenroom"
    whole = blocking.chat.completions.create(model=TALKATIVE, messages=said("hi"), temperature=0.1)
    assert whole.choices[0].message.content == TOKENS
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (1, 5)
    stream = blocking.chat.completions.create(
        model=TALKATIVE,
        messages=said("hi"),
        stream=True,
        stream_options={"include_usage": True},
    )
    *chunks, last = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TOKENS
    assert len(chunks) > 5
    assert (last.choices, last.usage) == ([], whole.usage)


def test_a_response_and_its_stream_say_the_same(blocking: OpenAI) -> None:
    whole = blocking.responses.create(model=TALKATIVE, input="hi", instructions="be kind")
    assert (whole.output_text, whole.status) == (TOKENS, "completed")
    assert blocking.responses.retrieve(whole.id).to_dict() == whole.to_dict()
    with blocking.responses.stream(model=TALKATIVE, input="hi") as stream:
        deltas = [e.delta for e in stream if e.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(deltas) == final.output_text == TOKENS
    assert len(deltas) == 5
    assert (final.usage, whole.usage and whole.usage.input_tokens) == (
        blocking.responses.retrieve(final.id).usage,
        2,
    )
    blocking.responses.delete(whole.id)
    with pytest.raises(openai.NotFoundError):
        blocking.responses.retrieve(whole.id)


async def test_a_conversation_goes_on_by_its_thread(client: AsyncOpenAI) -> None:
    metadata = {"thread_id": str(uuid.uuid4())}

    async def ask(*messages: dict[str, str]) -> str | None:
        completion = await client.chat.completions.create(
            model=TALKATIVE,
            messages=list(messages),  # type: ignore[arg-type]
            metadata=metadata,
        )
        return completion.choices[0].message.content

    system = {"role": "system", "content": "be kind"}
    first = {"role": "user", "content": "count"}
    # A message of the system takes the place of the one before.
    assert await ask(system, first) == "2"
    assert await ask(first) == "4"
    answers = {"role": "assistant", "content": "4"}
    assert await ask({**system, "content": "be brief"}, first, answers, first) == "6"
    # Without a thread, all is in the request.
    completion = await client.chat.completions.create(model=TALKATIVE, messages=said("count"))
    assert completion.choices[0].message.content == "1"


async def test_responses_go_on_and_branch(one: AsyncOpenAI) -> None:
    first = await one.responses.create(model=TALKATIVE, input="count")
    second = await one.responses.create(
        model=TALKATIVE, input="count", previous_response_id=first.id
    )
    branch = await one.responses.create(
        model=TALKATIVE, input="count", previous_response_id=first.id
    )
    further = await one.responses.create(
        model=TALKATIVE, input="count", previous_response_id=branch.id
    )
    said = [each.output_text for each in (first, second, branch, further)]
    assert said == ["1", "3", "3", "5"]
    for each in (first, second, branch, further):
        assert (await one.responses.retrieve(each.id)).output_text == each.output_text


@pytest.mark.parametrize("stream", [False, True])
async def test_a_question_is_asked_and_answered(client: AsyncOpenAI, stream: bool) -> None:
    on = {"model": TALKATIVE, "metadata": {"thread_id": str(uuid.uuid4())}}
    if stream:
        calls, text = [], ""
        async for chunk in await client.chat.completions.create(
            messages=said("ask how?"), stream=True, **on
        ):
            delta = chunk.choices[0].delta
            calls += delta.tool_calls or []
            text += delta.content or ""
        assert text == "how?"
    else:
        completion = await client.chat.completions.create(messages=said("ask how?"), **on)
        assert completion.choices[0].finish_reason == "tool_calls"
        calls = completion.choices[0].message.tool_calls or []
    (call,) = calls
    assert (call.function.name, json.loads(call.function.arguments)) == (
        "interrupt",
        {"value": "how?"},
    )
    answer = {"role": "tool", "tool_call_id": call.id, "content": "so"}
    done = await client.chat.completions.create(messages=[answer], **on)
    assert done.choices[0].message.content == "You say 'so'."


async def test_a_question_in_a_response_is_asked_and_answered(client: AsyncOpenAI) -> None:
    first = await client.responses.create(model=TALKATIVE, input="ask how?")
    (call,) = [item for item in first.output if item.type == "function_call"]
    assert first.output_text == "how?"
    answer = {"type": "function_call_output", "call_id": call.call_id, "output": "so"}
    second = await client.responses.create(
        model=TALKATIVE,
        previous_response_id=first.id,
        input=[answer],  # type: ignore[list-item]
    )
    assert second.output_text == "You say 'so'."
    again = await client.responses.retrieve(first.id)
    assert again.output == first.output


async def test_calls_of_tools_are_the_graphs_or_the_clients(one: AsyncOpenAI) -> None:
    used = await one.responses.create(model=TALKATIVE, input="use it")
    assert [item.type for item in used.output] == ["message", "mcp_call", "message"]
    assert used.output[1].output == "sunny"  # type: ignore[union-attr]
    async with one.responses.stream(model=TALKATIVE, input="use it") as stream:
        types = [
            event.item.type async for event in stream if event.type == "response.output_item.done"
        ]
    assert types == ["message", "mcp_call", "message"]
    called = await one.responses.create(model=TALKATIVE, input="call it")
    (call,) = called.output
    assert call.type == "function_call"
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Rome"})
    answer = {"type": "function_call_output", "call_id": call.call_id, "output": "rainy"}
    done = await one.responses.create(
        model=TALKATIVE,
        previous_response_id=called.id,
        input=[answer],  # type: ignore[list-item]
    )
    assert done.output_text == "The client says rainy."


async def test_errors_are_those_of_the_client(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        await client.chat.completions.create(model="nobody", messages=said("hi"))
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="'messages'"):
        await client.chat.completions.create(model="counter", messages=said("hi"))
    with pytest.raises(openai.InternalServerError, match="ValueError: oh") as failed:
        await client.chat.completions.create(model=TALKATIVE, messages=said("fail oh"))
    assert failed.value.code == "run_failed"
    stream = await client.chat.completions.create(
        model=TALKATIVE, messages=said("fail oh"), stream=True
    )
    with pytest.raises(openai.APIError, match="ValueError: oh"):
        async for _ in stream:
            pass
    response = await client.responses.create(model=TALKATIVE, input="fail oh")
    assert response.status == "failed"
    assert response.error is not None
    assert response.error.message == "ValueError: oh"
    assert (await client.responses.retrieve(response.id)).error == response.error


async def test_a_client_that_leaves_cancels_its_run(
    one: AsyncOpenAI, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    on = {"model": TALKATIVE, "metadata": {"thread_id": str(uuid.uuid4())}}
    gate = f"gate {tmp_path / 'never'}"
    stream = await one.chat.completions.create(messages=said(gate), stream=True, **on)
    first = await anext(aiter(stream))
    await stream.close()
    await until_run_is(http, run_id_of(first.id), "interrupted")
    waiting = asyncio.create_task(one.chat.completions.create(messages=said(gate), **on))

    async def running() -> list[str]:
        runs = (await http.get(f"/threads/{on['metadata']['thread_id']}/runs")).json()
        return [run["run_id"] for run in runs if run["status"] == "running"]

    (run_id,) = await until(running)
    waiting.cancel()
    await until_run_is(http, run_id, "interrupted")


async def test_a_stream_survives_the_death_of_the_process(
    one: AsyncOpenAI, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    stream = await one.chat.completions.create(
        model=TALKATIVE, messages=said(f"gate {gate}"), stream=True
    )
    text = ""
    async with asyncio.timeout(BOUND_S):
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
            if text.endswith("tok4 ") and not gate.exists():
                (await process_of(http, run_id_of(chunk.id))).kill()
                gate.touch()
    # What the second attempt has said again was not told again.
    assert text == WORDS


async def test_a_response_survives_the_death_of_its_process(
    one: AsyncOpenAI, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    begun = await one.responses.create(
        model=TALKATIVE, input=f"gate {gate}", background=True, stream=True
    )
    text, seen = "", -1
    async with asyncio.timeout(BOUND_S):
        async for event in begun:
            seen = event.sequence_number
            if event.type == "response.created":
                response_id = event.response.id
            if event.type == "response.output_text.delta":
                text += event.delta
                if text.endswith("tok4 "):
                    break
        await begun.close()
        run_id = str(uuid.UUID(response_id.removeprefix("resp_")))
        (await process_of(http, run_id)).kill()
        gate.touch()
        # It goes on without its first reader, and another one has what that one missed.
        joined = await one.responses.retrieve(response_id, stream=True, starting_after=seen)
        async for event in joined:
            if event.type == "response.output_text.delta":
                text += event.delta
    assert text == WORDS
    found = await one.responses.retrieve(response_id)
    assert (found.status, found.output_text) == ("completed", WORDS)


async def test_a_response_is_cancelled(one: AsyncOpenAI, tmp_path: Path) -> None:
    gate = tmp_path / "never"
    begun = await one.responses.create(model=TALKATIVE, input=f"gate {gate}", background=True)
    assert begun.status in ("queued", "in_progress")
    cancelled = await one.responses.cancel(begun.id)
    assert cancelled.status == "cancelled"
    assert (await one.responses.retrieve(begun.id)).status == "cancelled"
