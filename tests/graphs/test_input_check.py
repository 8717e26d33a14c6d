"""What the state of a graph can take, before it is said to a run."""

from __future__ import annotations

from operator import add
from typing import Annotated, Any

import pytest
from langgraph.func import entrypoint
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel
from typing_extensions import TypedDict

import greenroom
from greenroom.core.errors import InvalidRequest
from greenroom.graphs.input_check import check_input


class State(TypedDict, total=False):
    log: Annotated[list[str], add]
    count: int
    odd: Any


def node(state: Any) -> Any:
    return {}


def graph_of(schema: Any = State) -> Any:
    return StateGraph(schema).add_node("node", node).add_edge(START, "node").compile()


def refusal(graph: Any, update: Any = None, command: Any = None, as_node: Any = None) -> str:
    with pytest.raises(InvalidRequest) as refused:
        check_input(graph, "g", update, command, as_node)
    return refused.value.message


@pytest.mark.parametrize(
    "said",
    [
        {"update": {"log": ["a"]}},
        {"update": {"log": ["a"], "count": 1, "odd": object()}},
        {"update": {"log": ["a"]}, "as_node": "node"},
        {"update": {"log": ["a"]}, "as_node": "__start__"},
        {"command": {"goto": "node"}},
        {"command": {"update": {"count": 2}, "goto": [{"node": "node", "input": {}}]}},
        {"command": {"update": [["count", 2], ["log", ["a"]]]}},
    ],
)
def test_what_fits_is_taken(said: dict[str, Any]) -> None:
    given = {"update": None, "command": None, "as_node": None} | said
    check_input(graph_of(), "g", given["update"], given["command"], given["as_node"])


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"update": {"lgo": ["a"]}}, "has no key 'lgo'. It has count, log, odd."),
        ({"update": {}}, "must be an object with keys of the state of graph 'g'"),
        ({"update": ["a"]}, "must be an object"),
        ({"update": {"count": "many"}}, "'count' of the state cannot take this value"),
        ({"update": {"log": 5}}, "'log' of the state cannot take this value"),
        ({"update": {"log": ["a"]}, "as_node": "no"}, "has no node 'no'. It has node."),
        ({"command": {"goto": "no"}}, "has no node 'no'"),
        ({"command": {"update": [["count", 1], ["count", 2]]}}, "a key twice"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_there_is(
    said: dict[str, Any], sentence: str
) -> None:
    assert sentence in refusal(graph_of(), **said)


def test_messages_are_taken_as_a_run_takes_them() -> None:
    graph = graph_of(MessagesState)
    check_input(graph, "g", {"messages": [{"role": "user", "content": "hi"}]}, None, None)
    assert "cannot take this value" in refusal(graph, {"messages": [{"no": "message"}]})


def test_a_state_of_pydantic_has_its_types() -> None:
    class Model(BaseModel):
        count: int = 0

    check_input(graph_of(Model), "g", {"count": 1}, None, None)
    assert "count" in refusal(graph_of(Model), {"count": "many"})


def test_the_functional_api_has_no_state_to_change() -> None:
    @entrypoint()
    def work(given: int) -> int:
        return given

    assert "no state that an update could change" in refusal(work, 1)


def test_a_graph_that_listens_goes_nowhere_by_itself() -> None:
    graph = greenroom.listening(graph_of())
    check_input(graph, "g", {"count": 1}, None, None)
    assert "listens" in refusal(graph, {"count": 1}, as_node="node")
    assert "listens" in refusal(graph, command={"goto": "node"})
