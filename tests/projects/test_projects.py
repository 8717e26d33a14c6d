"""Small projects in the shapes of public ones: each is loaded by its `langgraph.json` and run.

In this process, one project after the other, with an in-memory saver. A server of all of them is
the last test (`slow`): there, processes of Ray load them.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore

from greenroom.core.ports import SchemasQuestion
from greenroom.graphs.configuration import Configuration, read_configuration
from greenroom.graphs.loading import load_graph
from greenroom.graphs.state import answer
from tests.graphs.graph_driver import order, run

HERE = Path(__file__).parent
TALK = {"messages": [{"role": "user", "content": "Rome"}]}


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a graph is sent and what it answers.

    Attributes:
        graph: the folder of its configuration and its name there.
        then: what a second run on the same thread answers; None: there is no second run.
    """

    graph: str
    says: dict[str, Any]
    input: Any = field(default_factory=dict[str, Any])
    context: dict[str, Any] = field(default_factory=dict[str, Any])
    then: dict[str, Any] | None = None


def said(graph: str, word: str, **more: Any) -> Case:
    return Case(graph=graph, says={"said": word}, **more)


WORD: dict[str, Any] = {"word": "given"}
CASES = (
    Case(
        graph="template_src/agent",
        context={"my_configurable_param": "care", "unknown": 1},
        says={"changeme": "configured with care"},
    ),
    Case(graph="package/agent", input=TALK, says={"messages": ["Rome", "1 so far"]}),
    said("flat/agent", "Hello, Ada", input={"name": "Ada"}),
    said("monorepo/apps/one/one", "one"),
    said("monorepo/apps/two/two", "two"),
    said("monorepo/one", "one"),
    said("monorepo/two", "two"),
    said("uv_workspace/agent", "from a workspace"),
    *(said(f"odd_names/{name}", name) for name in ("chef", "v2", "blank", "hyphen", "unicode")),
    said("factories/none", "none"),
    *(
        said(f"factories/{name}", "given", context=WORD)
        for name in ("config", "typed", "runtime", "both", "awaited")
    ),
    *(
        said(f"factories/{name}", "given", context=WORD)
        for name in ("managed", "awaited_managed", "bare")
    ),
    said("environment/agent", "Servus, Ada"),
    Case(
        graph="react_agent/agent",
        input=TALK,
        says={"messages": ["Rome", "", "sunny in Rome", "It is sunny in Rome"], "calls": 2},
    ),
    Case(graph="supervisor/supervisor", says={"done": ["research", "math"]}),
    Case(
        graph="swarm/swarm",
        says={"active_agent": "bob", "said": {"alice": 1, "bob": 1}},
        then={"active_agent": "bob", "said": {"alice": 1, "bob": 2}},
    ),
    Case(
        graph="functional/essay",
        input="cats",
        says={"": ["0: outline of cats", "1: outline of cats"]},
    ),
    Case(graph="subgraphs/parent", says={"seen": 1}, then={"seen": 2}),
    Case(
        graph="deep_agent/deep",
        input=TALK,
        says={
            "messages": ["Rome", "notes.md"],
            "todos": [{"content": "look", "status": "completed"}],
            "files": {"notes.md": {"content": ["found"]}},
        },
    ),
    Case(
        graph="approval/approval",
        says={"__interrupt__": [{"question": "May I?"}]},
        then={"answer": "yes"},
    ),
    said("library_names/agent", "library"),
    said("namespace/agent", "without __init__"),
    Case(
        graph="research/research",
        input={"topic": "cats"},
        context={"breadth": 3},
        says={"report": "cats 0; cats 1; cats 2"},
    ),
    Case(
        graph="memory/memory",
        input={"fact": "a"},
        says={"fact": "a", "known": ["a"]},
    ),
    said("module_target/agent", "module"),
)
CONFIGURATIONS = sorted(str(file.parent.relative_to(HERE)) for file in HERE.rglob("langgraph.json"))


def config_of(case: Case) -> tuple[str, str]:
    folder, _, graph_id = case.graph.rpartition("/")
    return folder, graph_id


@pytest.fixture
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forgets what a project has imported: several have a module ``agent``."""
    path, modules = [*sys.path], {*sys.modules}
    yield
    sys.path[:] = path
    for name in {*sys.modules} - modules:
        file = getattr(sys.modules[name], "__file__", None) or str(HERE)
        if Path(file).is_relative_to(HERE):
            del sys.modules[name]
    importlib.invalidate_caches()


def parts(values: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    """The wanted keys, of messages and interrupts only what they say; of a bare value its own."""
    if not isinstance(values, dict):
        return {"": values}
    values = {key: value for key, value in values.items() if key in wanted or key == "__error__"}
    return {
        key: [
            each.get("content", each.get("value", each)) if isinstance(each, dict) else each
            for each in value
        ]
        if key in ("messages", "__interrupt__")
        else value
        for key, value in values.items()
    }


def test_every_graph_of_every_project_has_a_case() -> None:
    configured = {
        f"{folder}/{graph_id}"
        for folder in CONFIGURATIONS
        for graph_id in read_configuration(HERE / folder).graphs
    }
    assert configured == {case.graph for case in CASES}


@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.graph)
async def test_a_project_is_loaded_and_run(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, graph_id = config_of(case)
    configuration = read_configuration(HERE / folder)
    for name, value in configuration.env.items():
        monkeypatch.setenv(name, value)
    loaded = load_graph(configuration, graph_id)
    saver, store = InMemorySaver(), InMemoryStore()
    todo = order(graph_id, **_kwargs(configuration, case))
    first = (await run(loaded, todo, saver, store=store)).output
    assert parts(first, case.says) == case.says
    if case.then is not None:
        more = _kwargs(configuration, case)
        if "__interrupt__" in case.says:
            more = {"input": None, "command": {"resume": "yes"}}
        again = order(graph_id, thread_id=todo.thread_id, **more)
        second = (await run(loaded, again, saver, store=store)).output
        assert parts(second, case.then) == case.then
    question = SchemasQuestion(graph_id=graph_id)
    schemas = json.loads(await answer(loaded, question, checkpointer=saver, store=store))
    assert schemas["state_schema"] is not None


def _kwargs(configuration: Configuration, case: Case) -> dict[str, Any]:
    defaults = configuration.graph(config_of(case)[1]).defaults.get("configurable", {})
    context = {**defaults, **case.context}
    return {"input": case.input, "config": {"configurable": context}, "context": context}
