"""An agent with `SteeringMiddleware`: what is said reaches its next model call."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool

import greenroom
from greenroom.graphs.input_check import check_input
from greenroom.graphs.loading import listens
from tests.actors.test_steering import around, given, heard, over, told, values
from tests.later import Later

if TYPE_CHECKING:
    from langchain import agents
else:
    agents = Later("langchain.agents")

BLUE = {"messages": [{"role": "user", "content": "no, the blue one"}]}


class Model(BaseChatModel):
    """Says what it was asked last; a first answer may be a call of a tool, or wait for ever."""

    hangs: bool = False
    calls_tool: bool = False
    asked: list[list[str]] = []  # noqa: RUF012 - pydantic copies it
    begun: Any = None
    cut: list[bool] = []  # noqa: RUF012

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kw: Any) -> ChatResult:
        self.asked.append([str(message.content) for message in messages])
        first = len(self.asked) == 1
        if first and self.begun is not None:
            self.begun.set()
        if first and self.hangs:
            try:
                await asyncio.Event().wait()
            finally:
                self.cut.append(True)
        answer = AIMessage(f"about: {messages[-1].content}")
        if first and self.calls_tool:
            call = {"name": "look", "args": {}, "id": "1", "type": "tool_call"}
            answer = AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=answer)])


def contents(actor: Any) -> list[tuple[str, str]]:
    return [(each["type"], each["content"]) for each in values(actor)["messages"]]


ASKED = {"messages": [{"role": "user", "content": "the red one"}]}


async def test_what_is_said_while_a_tool_runs_is_put_before_the_next_model_call() -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    @tool
    async def look() -> str:
        """Looks."""
        begun.set()
        await go.wait()
        return "seen"

    model = Model(calls_tool=True, asked=[])
    agent = agents.create_agent(model, [look], middleware=[greenroom.SteeringMiddleware()])
    assert listens(agent)
    actor = around(agent)
    attempt = actor.attempt(kwargs=given(input=ASKED))
    life = asyncio.create_task(actor.run(attempt))
    await begun.wait()
    said = actor.say(attempt, update=BLUE)
    await heard(attempt)
    go.set()
    await over(life)
    assert model.asked[1] == ["the red one", "", "seen", "no, the blue one"]
    assert contents(actor)[-2:] == [
        ("human", "no, the blue one"),
        ("ai", "about: no, the blue one"),
    ]
    assert [taking.input_id for taking in actor.takings] == [said]
    assert len(told(attempt)) == 1


async def test_what_is_said_cuts_off_the_model_call_that_is_under_way() -> None:
    begun = asyncio.Event()
    model = Model(hangs=True, begun=begun, asked=[], cut=[])
    agent = agents.create_agent(model, [], middleware=[greenroom.SteeringMiddleware()])
    actor = around(agent)
    attempt = actor.attempt(kwargs=given(input=ASKED))
    life = asyncio.create_task(actor.run(attempt))
    await begun.wait()
    said = actor.say(attempt, update=BLUE)
    await over(life)
    assert model.cut == [True]
    assert model.asked == [["the red one"], ["the red one", "no, the blue one"]]
    assert contents(actor) == [
        ("human", "the red one"),
        ("human", "no, the blue one"),
        ("ai", "about: no, the blue one"),
    ]
    assert [taking.input_id for taking in actor.takings] == [said]


async def test_an_agent_may_finish_its_model_call_first() -> None:
    begun = asyncio.Event()
    model = Model(begun=begun, asked=[])
    middleware = greenroom.SteeringMiddleware(cut_off=False)
    actor = around(agents.create_agent(model, [], middleware=[middleware]))
    attempt = actor.attempt(kwargs=given(input=ASKED))
    await actor.run(attempt)
    assert contents(actor)[-1] == ("ai", "about: the red one")


async def test_the_state_of_an_agent_says_what_it_takes() -> None:
    agent: Any = agents.create_agent(Model(), [], middleware=[greenroom.SteeringMiddleware()])
    check_input(agent, "agent", BLUE, None, None)


async def test_outside_of_a_server_the_middleware_does_nothing() -> None:
    agent = agents.create_agent(Model(asked=[]), [], middleware=[greenroom.SteeringMiddleware()])
    answer = await agent.ainvoke(ASKED)  # type: ignore[arg-type]
    assert [message.content for message in answer["messages"]] == [
        "the red one",
        "about: the red one",
    ]
