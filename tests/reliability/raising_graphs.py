"""A graph whose second node raises what a graph may raise, wherever and whatever it is told to."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.prebuilt import ToolNode
from typing_extensions import TypedDict


class Own(BaseException):
    pass


class Mute(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError

    __repr__ = __str__


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("cannot be pickled")
        self.held = lambda: None


def fail(how: str) -> None:
    match how:
        case "exit":
            sys.exit(2)
        case "argparse":
            argparse.ArgumentParser(exit_on_error=True).parse_args(["--unknown"])
        case "keyboard":
            raise KeyboardInterrupt
        case "generator":
            raise GeneratorExit
        case "own":
            raise Own("o")
        case "mute":
            raise Mute
        case "unpicklable":
            raise Unpicklable
        case "long":
            raise ValueError("x" * 10_000_000)


class State(TypedDict, total=False):
    how: str
    where: str
    seconds: float
    die: dict[str, Any]
    pid: int
    before: str
    messages: list[Any]


async def first(state: State) -> State:
    return {"before": "kept", "pid": os.getpid()}


async def in_a_node(state: State) -> State:
    await asyncio.sleep(state.get("seconds", 0.0))
    if state.get("die"):
        perhaps_stop_the_loop(state)
    fail(state.get("how", ""))
    return {}


def in_a_thread(state: State) -> State:
    fail(state.get("how", ""))
    return {}


def perhaps_stop_the_loop(state: State) -> None:
    marker = state["die"]["once"]
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    asyncio.get_running_loop().call_soon(sys.exit, 3)


async def call(state: State) -> State:
    arguments = {"how": state.get("how", "")}
    return {
        "messages": [AIMessage("", tool_calls=[{"name": "leave", "args": arguments, "id": "1"}])]
    }


@tool
async def leave(how: str) -> str:
    """Leaves."""
    await asyncio.sleep(0)
    fail(how)
    return "stayed"


def way(state: State) -> str:
    where = state.get("where", "in_a_node")
    if where == "in_an_edge":
        fail(state.get("how", ""))
        return END
    return "call" if where == "in_a_tool" else where


_builder = StateGraph(State)
_builder.add_node("first", first)
_builder.add_node("in_a_node", in_a_node)
_builder.add_node("in_a_thread", in_a_thread)
_builder.add_node("call", call)
_builder.add_node("tools", ToolNode([leave]))
_builder.add_edge(START, "first")
_builder.add_conditional_edges("first", way, ["in_a_node", "in_a_thread", "call", END])
_builder.add_edge("call", "tools")
raising = _builder.compile()
