"""Graphs by value: what is packed here runs in a process that has none of its modules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from greenroom.core.errors import ConfigurationError
from greenroom.graphs.shipping import pack, unpack

ROOT = Path(__file__).parents[2]

NOTEBOOK = '''
import operator, sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode, tools_condition
from pydantic import BaseModel
from typing_extensions import TypedDict

from greenroom.graphs.shipping import pack
from beside import exclaim

class Verdict(BaseModel):
    ok: bool

@dataclass
class Count:
    n: int

class Sub(TypedDict):
    count: Count

class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    count: Count
    verdict: Verdict

@tool
def multiply(a: int, b: int) -> int:
    """Multiplies."""
    return a * b

class Agent:
    def __init__(self, greeting):
        self.greeting = greeting

    async def __call__(self, state: State) -> State:
        if len(state["messages"]) == 1:
            call = {"name": "multiply", "args": {"a": 6, "b": 7}, "id": "1"}
            return {"messages": [AIMessage("", tool_calls=[call])], "count": Count(1)}
        return {"messages": [AIMessage(exclaim(self.greeting))], "verdict": Verdict(ok=True)}

def inner(state: Sub) -> Sub:
    assert isinstance(state["count"], Count), state
    return {"count": Count(state["count"].n + 1)}

child = StateGraph(Sub).add_node(inner).add_edge(START, "inner").compile()
builder = (
    StateGraph(State)
    .add_node("agent", Agent("done"))
    .add_node("tools", ToolNode([multiply]))
    .add_node("child", child)
    .add_edge(START, "agent")
    .add_conditional_edges("agent", tools_condition, {"tools": "tools", "__end__": "child"})
    .add_edge("tools", "agent")
)
folder = Path(sys.argv[1])
graph = builder if sys.argv[2] == "builder" else builder.compile(checkpointer=InMemorySaver())
(folder / "packed").write_bytes(pack("agent", graph, beside=folder))
'''

ACTOR = """
import asyncio, json, sys
from pathlib import Path

from langgraph.checkpoint.memory import InMemorySaver

from greenroom.graphs.shipping import unpack

graph = unpack("agent", Path(sys.argv[1]).read_bytes())
assert graph.checkpointer is None
graph = graph.copy(update={"checkpointer": InMemorySaver()})
config = {"configurable": {"thread_id": "t"}}
state = asyncio.run(graph.ainvoke({"messages": ["6 times 7?"]}, config))
again = asyncio.run(graph.aget_state(config)).values
print(json.dumps({
    "messages": [message.text for message in state["messages"]],
    "count": state["count"].n,
    "same": type(again["verdict"]) is type(state["verdict"]) and again["count"] == state["count"],
}))
"""


def python(code: str, *arguments: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["builder", "compiled"])
def test_tools_subgraphs_classes_and_modules_beside_it_travel_along(
    kind: str, tmp_path: Path
) -> None:
    beside = tmp_path / "beside.py"
    beside.write_text("def exclaim(text):\n    return f'{text}!'\n")
    python(NOTEBOOK, str(tmp_path), kind, folder=tmp_path)
    beside.unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    said = python(ACTOR, str(tmp_path / "packed"), folder=elsewhere)
    assert json.loads(said.splitlines()[-1]) == {
        "messages": ["6 times 7?", "", "42", "done!"],
        "count": 2,
        "same": True,
    }


def a_graph(node: Any) -> Any:
    from langgraph.graph import START, StateGraph
    from typing_extensions import TypedDict

    class State(TypedDict):
        n: int

    return StateGraph(State).add_node("adds", node).add_edge(START, "adds")


def test_a_lock_is_refused_and_the_node_named(tmp_path: Path) -> None:
    lock = threading.Lock()

    def adds(state: dict[str, int]) -> dict[str, int]:
        with lock:
            return {"n": state["n"] + 1}

    with pytest.raises(
        ConfigurationError, match=r"'counter' cannot be shipped: node 'adds' .*lock"
    ):
        pack("counter", a_graph(adds).compile(), beside=ROOT)


def test_what_is_no_graph_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'x' is a dict, not a graph"):
        pack("x", {}, beside=ROOT)


def test_a_module_that_is_missing_there_is_named() -> None:
    payload = pack("x", a_graph(lambda state: state), beside=ROOT)
    broken = payload.replace(b"langgraph.graph.state", b"langgraph.graph.stale")
    with pytest.raises(ConfigurationError, match=r"needs 'langgraph\.graph\.stale'"):
        unpack("x", broken)


def test_packing_leaves_no_module_registered_behind() -> None:
    import cloudpickle

    before = set(cloudpickle.list_registry_pickle_by_value())
    pack("counter", a_graph(lambda state: state), beside=ROOT)
    assert set(cloudpickle.list_registry_pickle_by_value()) == before
