"""The examples do what they say, in this process and without a server."""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command

EXAMPLES = Path(__file__).parent.parent / "examples"
CONFIGURATION = json.loads((EXAMPLES / "langgraph.json").read_text())
THREAD: Any = {"configurable": {"thread_id": "t"}}


@pytest.fixture(autouse=True)
def _examples_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def module(name: str) -> Any:
    path, _, _ = CONFIGURATION["graphs"][name].partition(":")
    return importlib.import_module(path.removeprefix("./").removesuffix(".py").replace("/", "."))


def graph(name: str) -> CompiledStateGraph[Any, Any, Any, Any]:
    return module(name).graph.copy(update={"checkpointer": InMemorySaver()})


def said(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


async def tokens(name: str, question: str) -> list[str]:
    stream: Any = graph(name).astream(said(question), THREAD, stream_mode="messages")
    return [message.text async for message, _ in stream if message.text]


async def test_every_example_has_a_graph() -> None:
    for name in CONFIGURATION["graphs"]:
        assert isinstance(module(name).graph, CompiledStateGraph)


async def test_chat_streams_its_answer_word_by_word() -> None:
    words = await tokens("chat", "Good evening")
    assert len(words) > 20
    assert "".join(words).startswith("You said: 'Good evening'.")


async def test_chat_remembers_the_conversation_of_its_thread() -> None:
    chat = graph("chat")
    await chat.ainvoke(said("One"), THREAD)
    state = await chat.ainvoke(said("Two"), THREAD)
    assert [message.type for message in state["messages"]] == ["human", "ai", "human", "ai"]


async def test_tools_are_really_called_and_their_answers_told() -> None:
    state = await graph("tools").ainvoke(
        said("What is 6 times 7, and the weather in Oslo?"), THREAD
    )
    assert [message.type for message in state["messages"]] == ["human", "ai", "tool", "tool", "ai"]
    answer = state["messages"][-1].text
    assert "42" in answer
    assert "Oslo" in answer


async def test_a_second_question_does_not_get_the_answer_of_the_first() -> None:
    tools = graph("tools")
    await tools.ainvoke(said("6 times 7"), THREAD)
    state = await tools.ainvoke(said("2 times 2"), THREAD)
    assert state["messages"][-1].text.endswith(" 4")


async def test_tools_says_what_it_can_do_when_it_understands_nothing() -> None:
    state = await graph("tools").ainvoke(said("Sing!"), THREAD)
    assert [message.type for message in state["messages"]] == ["human", "ai"]


@pytest.mark.parametrize(
    ("decision", "answer"),
    [
        ({"approved": True}, "Refunded 250 to Ada."),
        (True, "Refunded 250 to Ada."),
        ({"approved": False}, "No refund for Ada."),
        ("maybe", "No refund for Ada."),
    ],
)
async def test_approval_waits_for_a_human_and_does_what_is_decided(
    decision: Any, answer: str
) -> None:
    approval = graph("approval")
    stopped = await approval.ainvoke({"customer": "Ada", "amount": 250}, THREAD)
    assert stopped["__interrupt__"][0].value["question"] == "Refund 250 to Ada?"
    state = await approval.ainvoke(Command(resume=decision), THREAD)
    assert state["answer"] == answer


async def test_research_sends_one_researcher_per_topic_and_reports_all() -> None:
    stream = graph("research").astream(
        {"topics": ["Ray", "LangGraph", "Ray"]}, THREAD, stream_mode="updates", subgraphs=True
    )
    events = [(namespace, list(update)) async for namespace, update in stream]
    researchers = {namespace for namespace, _ in events if namespace}
    assert len(researchers) == 2
    report = (await graph("research").ainvoke({"topics": ["Ray", "LangGraph"]}, THREAD))["report"]
    assert report == "LangGraph: read 2 sources.\nRay: read 2 sources."


async def test_slow_tells_its_progress_and_checkpoints_every_step() -> None:
    slow = graph("slow")
    stream = slow.astream({"steps": 3, "step_s": 0.001}, THREAD, stream_mode="custom")
    assert [event async for event in stream] == [{"done": n, "of": 3} for n in (1, 2, 3)]
    assert len([state async for state in slow.aget_state_history(THREAD)]) == 5


async def test_errands_are_run_where_nobody_changes_their_mind() -> None:
    state = await graph("errands").ainvoke({"errand": "bread", "steps": 2, "step_s": 0.001}, THREAD)
    assert state["diary"] == ["1 steps from the bread", "0 steps from the bread"]


@pytest.mark.parametrize("how", ["sleep", "spin"])
async def test_blocking_holds_its_thread_for_as_long_as_it_says(how: str) -> None:
    began = time.monotonic()
    state = await graph("blocking").ainvoke({"seconds": 0.05, "how": how}, THREAD)
    assert time.monotonic() - began >= 0.05
    assert state["answer"] == "I have blocked for 0.05 s."


async def test_openai_says_what_to_set_when_it_has_no_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(RuntimeError, match="set OPENAI_API_KEY, or OPENAI_BASE_URL"):
        await graph("openai").ainvoke(said("Hello"), THREAD)


async def test_openai_streams_what_the_model_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[httpx.Request] = []

    def completions(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        chunks = [{"choices": [{"delta": {"content": word}}]} for word in ("Good ", "evening")]
        chunks.append({"choices": []})
        lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
        return httpx.Response(200, text="".join([*lines, "data: [DONE]\n\n"]))

    client = httpx.AsyncClient(transport=httpx.MockTransport(completions))
    monkeypatch.setattr(httpx, "AsyncClient", lambda: client)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://model.test/v1/")
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    assert await tokens("openai", "Hello") == ["Good ", "evening"]
    assert str(seen[0].url) == "http://model.test/v1/chat/completions"
    assert json.loads(seen[0].content)["messages"] == [{"role": "user", "content": "Hello"}]
