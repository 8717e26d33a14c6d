"""Graphs without network access and keys; each measures one thing."""

from __future__ import annotations

import asyncio
import operator
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph
from typing_extensions import TypedDict  # the reference's schemas need this one before Python 3.12


def _one_node(state: type, name: str, node: Any) -> Any:
    builder = StateGraph(state)
    builder.add_node(name, node)
    builder.add_edge(START, name)
    builder.add_edge(name, END)
    return builder.compile()


# --- agent: streams tokens -----------------------------------------------------------------------


class PacedModel(BaseChatModel):
    """Streams ``n_tokens`` tokens with a pause of ``delay`` seconds before each."""

    n_tokens: int = 5
    delay: float = 0.0

    @property
    def _llm_type(self) -> str:
        return "paced"

    def _tokens(self) -> list[str]:
        return [f"tok{i} " for i in range(self.n_tokens)]

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        message = AIMessage(content="".join(self._tokens()))
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        for token in self._tokens():
            if self.delay:
                time.sleep(self.delay)
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=token))
            if run_manager:
                run_manager.on_llm_new_token(token, chunk=chunk)
            yield chunk

    async def _astream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for token in self._tokens():
            if self.delay:
                await asyncio.sleep(self.delay)
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=token))
            if run_manager:
                await run_manager.on_llm_new_token(token, chunk=chunk)
            yield chunk


class AgentState(MessagesState):
    n_tokens: int
    delay: float


async def call_model(state: AgentState) -> dict[str, Any]:
    model = PacedModel(n_tokens=state.get("n_tokens") or 5, delay=state.get("delay") or 0.0)
    return {"messages": [await model.ainvoke(state["messages"])]}


agent = _one_node(AgentState, "call_model", call_model)


# --- trivial: what a run costs when its graph costs nothing --------------------------------------


class TrivialState(TypedDict, total=False):
    x: int


async def inc(state: TrivialState) -> dict[str, Any]:
    return {"x": state.get("x", 0) + 1}


trivial = _one_node(TrivialState, "inc", inc)


# --- slow: waits, as for a network ---------------------------------------------------------------


class SlowState(TypedDict, total=False):
    steps: int
    delay: float
    i: int
    trail: Annotated[list[str], operator.add]


async def reset(state: SlowState) -> dict[str, Any]:
    return {"i": 0}


async def step(state: SlowState) -> dict[str, Any]:
    await asyncio.sleep(state.get("delay", 0.1))
    i = state.get("i", 0) + 1
    return {"i": i, "trail": [str(i)]}


def _more(state: SlowState) -> str:
    return "step" if state.get("i", 0) < state.get("steps", 10) else END


_slow = StateGraph(SlowState)
_slow.add_node("reset", reset)
_slow.add_node("step", step)
_slow.add_edge(START, "reset")
_slow.add_edge("reset", "step")
_slow.add_conditional_edges("step", _more, ["step", END])
slow = _slow.compile()


# --- loop: many checkpoints of a small state -----------------------------------------------------


class LoopState(TypedDict, total=False):
    steps: int
    i: int
    last: Annotated[list[str], lambda _, new: new]


async def turn(state: LoopState) -> dict[str, Any]:
    i = state.get("i", 0) + 1
    return {"i": i, "last": [f"turn {i}", "of a loop"]}


def _turns_left(state: LoopState) -> str:
    return "turn" if state.get("i", 0) < state.get("steps", 10) else END


_loop = StateGraph(LoopState)
_loop.add_node("turn", turn)
_loop.add_edge(START, "turn")
_loop.add_conditional_edges("turn", _turns_left, ["turn", END])
loop = _loop.compile()


# --- blocking: an ill-behaved neighbour ----------------------------------------------------------


class BlockingState(TypedDict, total=False):
    seconds: float
    mode: str
    out: str


def _block(state: BlockingState) -> dict[str, Any]:
    seconds = state.get("seconds", 2.0)
    if state.get("mode") == "cpu":
        began = time.perf_counter()
        spins = 0
        while time.perf_counter() - began < seconds:
            spins += 1
    else:
        time.sleep(seconds)
    return {"out": "done"}


async def block_async(state: BlockingState) -> dict[str, Any]:
    return _block(state)


def block_sync(state: BlockingState) -> dict[str, Any]:
    return _block(state)


blocking = _one_node(BlockingState, "block_async", block_async)
blocking_sync = _one_node(BlockingState, "block_sync", block_sync)


# --- burn: CPU seconds of its own thread, so that two of them cannot share one core --------------


def burn_cpu(state: BlockingState) -> dict[str, Any]:
    until = time.thread_time() + state.get("seconds", 2.0)
    while time.thread_time() < until:
        sum(range(1000))
    return {"out": "done"}


burn = _one_node(BlockingState, "burn_cpu", burn_cpu)


# --- blob: a large state -------------------------------------------------------------------------


class BlobState(TypedDict, total=False):
    size: int
    blob: list[str]


async def fill(state: BlobState) -> dict[str, Any]:
    line = "0123456789abcdef" * 64
    return {"blob": [line] * (state.get("size", 0) // len(line))}


blob = _one_node(BlobState, "fill", fill)


# --- burst: many events, at once or `rate` a second ----------------------------------------------


class BurstState(TypedDict, total=False):
    events: int
    rate: int
    hold: float
    done: bool


async def emit(state: BurstState) -> dict[str, Any]:
    write, rate = get_stream_writer(), state.get("rate", 0)
    for number in range(state.get("events", 5000)):
        write({"number": number, "text": "a token or two"})
        if rate and number % (step := max(1, rate // 50)) == step - 1:
            await asyncio.sleep(step / rate)
    await asyncio.sleep(state.get("hold", 0.0))
    return {"done": True}


burst = _one_node(BurstState, "emit", emit)
