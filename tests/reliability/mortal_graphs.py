"""Graphs that leave traces outside of their process, and lose that process on purpose.

What a node does is one line in the file ``effects`` (one write each, so that they do not mix):
``<run> <node> <process>``. Who dies does so once per marker file, or always.
"""

# ruff: noqa: ASYNC110, ASYNC240, ASYNC251, SIM105
from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict


def joined(old: list[str] | None, new: list[str] | None) -> list[str]:
    return [*(old or []), *(new or [])]


class State(TypedDict, total=False):
    """Attributes:

    n: how many steps.
    delay: seconds per step.
    die: ``{"at": node, "how": way, "once": marker file or None}``.
    effects: where to leave traces.
    """

    n: int
    i: int
    delay: float
    die: dict[str, Any]
    effects: str
    log: Annotated[list[str], joined]


def trace(state: Any, config: RunnableConfig, name: str) -> None:
    path = state.get("effects")
    if path:
        line = f"{config['configurable']['run_id']} {name} {os.getpid()}\n".encode()
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, line)
        os.close(file)


def perhaps_die(state: Any, name: str) -> None:
    die = state.get("die") or {}
    if die.get("at") != name:
        return
    if die.get("once"):
        try:
            os.close(os.open(die["once"], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
    match die["how"]:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(3)
        case "segfault":
            ctypes.string_at(0)


async def one_step(state: State, config: RunnableConfig) -> State:
    i = state.get("i", 0) + 1
    writer = get_stream_writer()
    writer({"begun": i})
    await asyncio.sleep(state.get("delay", 0.0))
    trace(state, config, f"step-{i}")
    perhaps_die(state, f"step-{i}")
    writer({"done": i})
    return {"i": i, "log": [str(i)]}


def more(state: State) -> str:
    return "step" if state["i"] < state.get("n", 5) else END


_steps = StateGraph(State)
_steps.add_node("step", one_step)
_steps.add_edge(START, "step")
_steps.add_conditional_edges("step", more, ["step", END])
steps = _steps.compile()
crowd = _steps.compile()


def told(thread_id: str) -> Path:
    """Where a test writes what `wary` does when it is closed: ``sleep`` or ``die``."""
    return Path(tempfile.gettempdir()) / f"wary-{thread_id}"


@asynccontextmanager
async def wary(config: RunnableConfig) -> AsyncIterator[Any]:
    """Whatever was to be written is written when this does what it was told."""
    yield crowd
    path = told(config.get("configurable", {}).get("thread_id", ""))
    word = path.read_text() if path.exists() else ""
    if word:
        with path.with_suffix(".closing").open("a") as closing:
            closing.write(f"{os.getpid()}\n")
    if word == "sleep":
        await asyncio.sleep(5)
    if word == "die":
        os.kill(os.getpid(), signal.SIGKILL)


# --- a model's tokens -----------------------------------------------------------------------------


class Model(BaseChatModel):
    """Attributes:

    gate: after some tokens the model writes its process beside this file, and waits for the file.
    """

    count: int = 20
    delay: float = 0.02
    gate: str = ""

    @property
    def _llm_type(self) -> str:
        return "counting"

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        message = AIMessage("".join(f"{i} " for i in range(self.count)))
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _astream(self, messages: Any, stop: Any = None, run_manager: Any = None, **kw: Any):
        for i in range(self.count):
            await asyncio.sleep(self.delay)
            if i == 5 and self.gate:
                Path(f"{self.gate}.pid").write_text(str(os.getpid()))
                while not Path(self.gate).exists():
                    await asyncio.sleep(0.01)
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=f"{i} "))
            if run_manager:
                await run_manager.on_llm_new_token(f"{i} ", chunk=chunk)
            yield chunk


class TokensState(MessagesState, total=False):
    count: int
    delay: float
    effects: str
    gate: str


async def answer(state: TokensState, config: RunnableConfig) -> Any:
    model = Model(
        count=state.get("count", 20), delay=state.get("delay", 0.02), gate=state.get("gate", "")
    )
    message = await model.ainvoke(state["messages"])
    trace(state, config, "answer")
    return {"messages": [message]}


async def twice(state: TokensState, config: RunnableConfig) -> Any:
    return await answer(state, config)


_tokens = StateGraph(TokensState)
_tokens.add_node("answer", answer)
_tokens.add_node("again", twice)
_tokens.add_edge(START, "answer")
_tokens.add_edge("answer", "again")
tokens = _tokens.compile()

_gated = StateGraph(TokensState)
_gated.add_node("answer", answer)
_gated.add_edge(START, "answer")
gated = _gated.compile()


# --- half a superstep, and subgraphs --------------------------------------------------------------


def named(name: str, *, waits_for: str | None = None) -> Any:
    async def node(state: State, config: RunnableConfig) -> State:
        if waits_for and state.get("effects"):
            run_id = config["configurable"]["run_id"]
            while f"{run_id} {waits_for} " not in Path(state["effects"]).read_text():
                await asyncio.sleep(0.01)
            # Its result is stored in the background, as soon as it is there.
            await asyncio.sleep(0.3)
        get_stream_writer()({"begun": name})
        trace(state, config, name)
        perhaps_die(state, name)
        return {"log": [name]}

    node.__name__ = name
    return node


_fan = StateGraph(State)
for _name in ("first", "quick", "last"):
    _fan.add_node(_name, named(_name))
_fan.add_node("slow", named("slow", waits_for="quick"))
_fan.add_edge(START, "first")
_fan.add_edge("first", "quick")
_fan.add_edge("first", "slow")
_fan.add_edge(["quick", "slow"], "last")
fan = _fan.compile()


def _line(*names: str) -> StateGraph[Any]:
    builder: StateGraph[Any] = StateGraph(State)
    for before, name in zip((START, *names), names, strict=False):
        builder.add_node(name, named(name))
        builder.add_edge(before, name)
    return builder


_outer = StateGraph(State)
_outer.add_node("before", named("before"))
_outer.add_node("within", _line("x", "y", "z").compile())
_outer.add_edge(START, "before")
_outer.add_edge("before", "within")
nested = _outer.compile()


# --- questions ------------------------------------------------------------------------------------


def question(name: str) -> Any:
    async def ask(state: State, config: RunnableConfig) -> State:
        reply = interrupt(name)
        trace(state, config, f"{name}={reply}")
        perhaps_die(state, name)
        return {"log": [f"{name}={reply}"]}

    ask.__name__ = name
    return ask


_asking = StateGraph(State)
_asking.add_node("start", named("start"))
_asking.add_node("delete_one", question("delete_one"))
_asking.add_node("delete_all", question("delete_all"))
_asking.add_edge(START, "start")
_asking.add_edge("start", "delete_one")
_asking.add_edge("delete_one", "delete_all")
asking = _asking.compile()


# --- ways not to stop, and to grow ----------------------------------------------------------------


class StubbornState(TypedDict, total=False):
    """Attributes:

    how: what the node does instead of listening.
    seconds: for how long.
    heard: a file that somebody makes when what the node said has come; the node takes it away.
    """

    how: str
    seconds: float
    heard: str


async def never_stop(state: StubbornState) -> Any:
    seconds = state.get("seconds", 60.0)
    get_stream_writer()("begun")
    if heard := state.get("heard"):
        while not os.path.exists(heard):
            await asyncio.sleep(0.01)
        os.unlink(heard)
    match state["how"]:
        case "sleep":
            time.sleep(seconds)
        case "loop":
            end_s = time.perf_counter() + seconds
            while time.perf_counter() < end_s:
                pass
        case "c code":
            # PyDLL keeps the interpreter's lock while it is in C.
            ctypes.PyDLL(None).usleep(ctypes.c_uint(int(seconds * 1e6)))
        case "swallow":
            end_s = time.perf_counter() + seconds
            while time.perf_counter() < end_s:
                try:
                    await asyncio.sleep(0.05)
                except asyncio.CancelledError:
                    pass
    return {"seconds": 0.0}


_stubborn = StateGraph(StubbornState)
_stubborn.add_node("never_stop", never_stop)
_stubborn.add_edge(START, "never_stop")
stubborn = _stubborn.compile()


def use_up_descriptors(seconds: float) -> None:
    """Nobody in this process can open anything meanwhile."""
    held: list[int] = []
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        try:
            held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            time.sleep(0.01)
    for descriptor in held:
        os.close(descriptor)


async def grow(state: State) -> State:
    if state.get("delay"):
        use_up_descriptors(state["delay"])
    held = []
    while True:
        held.append(bytearray(os.urandom(1 << 20) * 16))
        await asyncio.sleep(0.02)


_leaky = StateGraph(State)
_leaky.add_node("grow", grow)
_leaky.add_edge(START, "grow")
leaky = _leaky.compile()


# --- factories that are no good to who only reads -------------------------------------------------


def _is_read(config: RunnableConfig, graph: str) -> bool:
    """Also notes which process is asked about which graph."""
    is_read = "run_id" not in config.get("configurable", {})
    if is_read:
        with open(os.environ.get("MORTAL_READS", os.devnull), "a") as reads:
            reads.write(f"{graph} {os.getpid()}\n")
    return is_read


def blocks_readers(config: RunnableConfig) -> Any:
    if _is_read(config, "blocks_readers"):
        time.sleep(3600)
    return _stubborn


async def keeps_readers_waiting(config: RunnableConfig) -> Any:
    if _is_read(config, "keeps_readers_waiting"):
        await asyncio.sleep(3600)
    return _stubborn


def kills_readers(config: RunnableConfig) -> Any:
    if _is_read(config, "kills_readers"):
        os._exit(7)
    return _stubborn


def exits_readers(config: RunnableConfig) -> Any:
    if _is_read(config, "exits_readers"):
        raise SystemExit("no readers")
    return _stubborn


# --- much to say ----------------------------------------------------------------------------------


class LoudState(TypedDict, total=False):
    n: int
    size: int


async def shout(state: LoudState) -> Any:
    writer = get_stream_writer()
    for i in range(state["n"]):
        writer({"i": i, "data": "x" * state["size"]})
    return {"size": 0}


_loud = StateGraph(LoudState)
_loud.add_node("shout", shout)
_loud.add_edge(START, "shout")
loud = _loud.compile()
