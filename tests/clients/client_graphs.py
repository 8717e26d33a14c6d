"""Graphs for what the probes do not have: interrupts in a subgraph, and an answer that waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Literal

from langchain_core.messages import AIMessage, AIMessageChunk, ToolMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState, ToolNode
from langgraph.types import interrupt
from probe_graphs import FakeStreamingModel
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

GATE_PATIENCE_S = 90.0


# trip: asks a person from inside its subgraph ------------------------------------------------
class TripState(TypedDict, total=False):
    place: str
    approved: Any


async def plan(state: TripState) -> TripState:
    return {"place": state.get("place", "Rome")}


async def approve(state: TripState) -> TripState:
    return {"approved": interrupt({"book": state["place"]})}


_booking = StateGraph(TripState)
_booking.add_node("approve", approve)
_booking.add_edge(START, "approve")

_trip = StateGraph(TripState)
_trip.add_node("plan", plan)
_trip.add_node("booking", _booking.compile())
_trip.add_edge(START, "plan")
_trip.add_edge("plan", "booking")
trip = _trip.compile()


# gated: ten tokens, of which the second half waits until the file `gate` is there -------------
class GatedState(MessagesState):
    gate: str


class GatedModel(FakeStreamingModel):
    gate: str

    async def _astream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for number in range(10):
            if number == 5:
                async with asyncio.timeout(GATE_PATIENCE_S):
                    while not Path(self.gate).exists():  # noqa: ASYNC110, ASYNC240 - of another process
                        await asyncio.sleep(0.01)
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=f"tok{number} "))
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk


async def answer(state: GatedState) -> dict[str, Any]:
    return {"messages": [await GatedModel(gate=state["gate"]).ainvoke(state["messages"])]}


_gated = StateGraph(GatedState)
_gated.add_node("answer", answer)
_gated.add_edge(START, "answer")
gated = _gated.compile()


# talkative: what it does is the first word of what it is told ----------------------------------
class CountingModel(FakeStreamingModel):
    """Tells the tokens that it took."""

    async def _astream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        async for chunk in super()._astream(messages, stop, run_manager):
            yield chunk
        usage = {"input_tokens": len(messages), "output_tokens": 5, "total_tokens": 5}
        usage["total_tokens"] += len(messages)
        yield ChatGenerationChunk(message=AIMessageChunk(content="", usage_metadata=usage))


async def talk(state: MessagesState) -> dict[str, Any]:
    messages = state["messages"]
    if isinstance(messages[-1], ToolMessage):
        return {"messages": [AIMessage(f"The client says {messages[-1].content}.")]}
    word, _, rest = str(messages[-1].content).partition(" ")
    call = {"name": "weather", "args": {"city": "Rome"}, "id": "call-1", "type": "tool_call"}
    match word:
        case "ask":
            return {"messages": [AIMessage(f"You say {interrupt(rest)!r}.")]}
        case "use":
            calls = AIMessage("Let me see.", tool_calls=[call])
            said = ToolMessage("sunny", tool_call_id="call-1", name="weather")
            return {"messages": [calls, said, AIMessage("It is sunny.")]}
        case "call":
            return {"messages": [AIMessage("", tool_calls=[call])]}
        case "gate":
            return {"messages": [await GatedModel(gate=rest).ainvoke(messages)]}
        case "count":
            return {"messages": [AIMessage(str(len(messages)))]}
        case "fail":
            raise ValueError(rest)
        case _:
            return {"messages": [await CountingModel().ainvoke(messages)]}


_talkative = StateGraph(MessagesState)
_talkative.add_node("talk", talk)
_talkative.add_edge(START, "talk")
talkative = _talkative.compile()


# crew: a model that calls a tool, then a subgraph with a model of its own ------------------------
@tool
async def weather(city: str) -> str:
    """Tells the weather."""
    return f"sunny in {city}"


async def call(state: MessagesState) -> dict[str, Any]:
    calls = [{"name": "weather", "args": {"city": "Rome"}, "id": "call-1", "type": "tool_call"}]
    return {"messages": [AIMessage("Let me see.", tool_calls=calls)]}


async def write(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await FakeStreamingModel(n_tokens=3).ainvoke(state["messages"])]}


_writer = StateGraph(MessagesState)
_writer.add_node("write", write)
_writer.add_edge(START, "write")

_editor = StateGraph(MessagesState)
_editor.add_node("writer", _writer.compile())
_editor.add_edge(START, "writer")

_crew = StateGraph(MessagesState)
_crew.add_node("call", call)
_crew.add_node("tools", ToolNode([weather]))
_crew.add_node("editor", _editor.compile())
_crew.add_edge(START, "call")
_crew.add_edge("call", "tools")
_crew.add_edge("tools", "editor")
crew = _crew.compile()


# squad: a tool that is an agent of its own, as deep agents have it. The agent waits for a file
# beside `gate`, because a page may hear it late, and the end for `gate` itself --------------------
@tool
async def task(
    description: str, subagent_type: str, state: Annotated[dict[str, Any], InjectedState]
) -> str:
    """Has an agent do something."""
    asked = {"messages": [{"role": "user", "content": description}], "gate": state["gate"]}
    done = await _squad_writer.ainvoke(asked)
    return f"{subagent_type} says: {done['messages'][-1].text}"


async def write_when_heard(state: GatedState) -> dict[str, Any]:
    await opened(f"{state['gate']}.heard")
    return await write(state)


async def opened(gate: str) -> None:
    async with asyncio.timeout(GATE_PATIENCE_S):
        while not Path(gate).exists():  # noqa: ASYNC110, ASYNC240 - of another process
            await asyncio.sleep(0.01)


async def delegate(state: MessagesState) -> dict[str, Any]:
    given = {"description": "write a line", "subagent_type": "writer"}
    calls = [{"name": "task", "args": given, "id": "task-1", "type": "tool_call"}]
    return {"messages": [AIMessage("I ask the writer.", tool_calls=calls)]}


async def conclude(state: GatedState) -> dict[str, Any]:
    await opened(state["gate"])
    return {"messages": [AIMessage("That is all.")]}


_heard_writer = StateGraph(GatedState)
_heard_writer.add_node("write", write_when_heard)
_heard_writer.add_edge(START, "write")
_squad_writer = _heard_writer.compile(name="writer")

_squad = StateGraph(GatedState)
_squad.add_node("delegate", delegate)
_squad.add_node("tools", ToolNode([task]))
_squad.add_node("conclude", conclude)
_squad.add_edge(START, "delegate")
_squad.add_edge("delegate", "tools")
_squad.add_edge("tools", "conclude")
squad = _squad.compile()


# decision: asks for an answer of a certain form ---------------------------------------------------
class Decision(BaseModel):
    """What to do with the refund."""

    approved: bool = Field(description="Whether the money goes out")
    amount: int = Field(ge=0, le=500)
    reason: str = Field(default="", max_length=80)
    channel: Literal["card", "bank"] = "card"


class DecisionState(TypedDict, total=False):
    customer: str
    decision: dict[str, Any]


async def decide(state: DecisionState) -> DecisionState:
    asked = {"question": f"Refund {state.get('customer', 'Ada')}?"}
    return {"decision": interrupt(asked, response_schema=Decision).model_dump()}


_decision = StateGraph(DecisionState)
_decision.add_node("decide", decide)
_decision.add_edge(START, "decide")
decision = _decision.compile()


# asks: whatever it is told to ask -----------------------------------------------------------------
class AskedState(TypedDict, total=False):
    value: Any
    answer: Any


async def put_question(state: AskedState) -> AskedState:
    return {"answer": interrupt(state["value"])}


_asks = StateGraph(AskedState)
_asks.add_node("put_question", put_question)
_asks.add_edge(START, "put_question")
asks = _asks.compile()


# hostile: its node, its messages and its errors would be markup where text is taken for that ------
MARKUP = "<img src=x onerror=alert(1)>"


async def repeat(state: MessagesState) -> dict[str, Any]:
    said = str(state["messages"][-1].content)
    if "fail" in said:
        raise ValueError(said)
    call = {"name": MARKUP, "args": {MARKUP: said}, "id": "call-1", "type": "tool_call"}
    return {"messages": [AIMessage(said, name=MARKUP, tool_calls=[call])]}


_hostile = StateGraph(MessagesState)
_hostile.add_node(MARKUP, repeat)
_hostile.add_edge(START, MARKUP)
hostile = _hostile.compile()


# large: a state of many MiB, then a step that changes a small part of it ------------------------
class LargeState(TypedDict, total=False):
    lines: list[str]
    text: str
    steps: int


async def grow(state: LargeState) -> LargeState:
    return {"lines": [f"{n:01024}" for n in range(len(state["lines"]))], "steps": 1}


async def touch(state: LargeState) -> LargeState:
    return {"steps": 2}


async def fill(state: LargeState) -> LargeState:
    mib = int(state["text"])
    return {"lines": [""] * (mib * 1024), "text": "0123456789abcdef" * (mib * 65536)}


_large = StateGraph(LargeState)
_large.add_node("fill", fill)
_large.add_node("grow", grow)
_large.add_node("touch", touch)
_large.add_edge(START, "fill")
_large.add_edge("fill", "grow")
_large.add_edge("grow", "touch")
large = _large.compile()
