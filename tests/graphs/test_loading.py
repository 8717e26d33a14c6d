"""From a line of `langgraph.json` to a graph, in every way that people write it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore

from greenroom.core.errors import ConfigurationError
from greenroom.core.ports import SchemasQuestion
from greenroom.graphs.configuration import Configuration, GraphSpec
from greenroom.graphs.loading import LoadedGraph, load_graph
from greenroom.graphs.state import answer
from tests.graphs.graph_driver import order, run

BUILDER = """
import contextlib
from dataclasses import dataclass
from typing import Any
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph_sdk.runtime import ServerRuntime
from typing_extensions import TypedDict

class State(TypedDict, total=False):
    out: Any

@dataclass
class Context:
    user: str

left = []

def saying(what):
    async def say(state: State):
        return {"out": what}
    builder = StateGraph(State)
    builder.add_node("say", say)
    builder.add_edge(START, "say")
    return builder
"""


@pytest.fixture(autouse=True)
def _imports_are_forgotten() -> Iterator[None]:
    path, modules = [*sys.path], {*sys.modules}
    yield
    sys.path[:] = path
    for name in {*sys.modules} - modules:
        if not name.split(".")[0].startswith(("langgraph", "langchain", "pydantic", "greenroom")):
            del sys.modules[name]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def load(root: Path, target: str, *import_paths: Path) -> LoadedGraph:
    graphs = {"g": GraphSpec(graph_id="g", target=target)}
    return load_graph(Configuration(root=root, graphs=graphs, import_paths=import_paths), "g")


async def said(loaded: LoadedGraph, **kwargs: Any) -> Any:
    todo = order("g", input={"out": None}, **kwargs)
    return (await run(loaded, todo, store=InMemoryStore())).output["out"]


@pytest.mark.parametrize(
    "code",
    [
        "graph = saying('x').compile()",
        "graph = saying('x')",
        "def graph(): return saying('x')",
        "def graph(): return saying('x').compile()",
        "async def graph(): return saying('x')",
        "def graph(config): return saying(config['configurable']['word'])",
        "def graph(anything): return saying(anything['configurable']['word'])",
        "def graph(config, /): return saying(config['configurable']['word'])",
        "def graph(cfg: RunnableConfig): return saying(cfg['configurable']['word'])",
        "async def graph(*, config): return saying(config['configurable']['word'])",
        "def graph(config, verbose=False): return saying('x')",
        "def graph(config=None): return saying(config['configurable']['word'])",
        "def graph(runtime): return saying('x' if runtime.execution_runtime else 'y')",
        "def graph(rt: ServerRuntime): return saying('x' if rt.execution_runtime else 'y')",
        "def graph(config, runtime: ServerRuntime[Context]):"
        " return saying(runtime.execution_runtime.context.user)",
        "@contextlib.asynccontextmanager\n"
        "async def graph(config):\n    yield saying('x')\n    left.append(1)",
        "@contextlib.contextmanager\ndef graph():\n    yield saying('x')\n    left.append(1)",
        "async def graph():\n    yield saying('x')\n    left.append(1)",
        "class Maker:\n    def __call__(self, config): return saying('x')\ngraph = Maker()",
    ],
)
async def test_a_graph_may_be_given_in_every_way_that_people_write_it(
    tmp_path: Path, code: str
) -> None:
    write(tmp_path / "agent.py", BUILDER + code)
    loaded = load(tmp_path, "./agent.py:graph")
    config = {"configurable": {"word": "x"}}
    assert await said(loaded, config=config, context={"user": "x"}) == "x"
    if "left.append" in code:
        assert sys.modules["agent"].left == [1]


async def test_a_factory_is_called_for_questions_too_and_can_tell(tmp_path: Path) -> None:
    write(
        tmp_path / "agent.py",
        BUILDER + "asked = []\ndef graph(runtime):\n"
        "    asked.append((runtime.access_context, runtime.execution_runtime is None))\n"
        "    return saying('x')",
    )
    loaded = load(tmp_path, "./agent.py:graph")
    await said(loaded)
    await answer(loaded, SchemasQuestion(graph_id="g"), checkpointer=InMemorySaver(), store=None)
    assert sys.modules["agent"].asked == [
        ("threads.create_run", False),
        ("assistants.read", True),
    ]


async def test_a_file_in_a_package_may_import_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path / "pkg" / "__init__.py", "")
    write(tmp_path / "pkg" / "inner" / "__init__.py", "")
    write(tmp_path / "pkg" / "base.py", BUILDER)
    write(tmp_path / "pkg" / "inner" / "agent.py", "from ..base import saying\ng = saying('x')")
    loaded = load(tmp_path, "./pkg/inner/agent.py:g")
    assert await said(loaded) == "x"
    assert "pkg.inner.agent" in sys.modules


async def test_a_package_itself_may_be_the_file(tmp_path: Path) -> None:
    write(tmp_path / "pkg2" / "__init__.py", BUILDER + "g = saying('x')")
    assert await said(load(tmp_path, "./pkg2/__init__.py:g")) == "x"
    assert await said(load(tmp_path, "./pkg2:g")) == "x"


async def test_a_dotted_module_is_found_beside_the_configuration(tmp_path: Path) -> None:
    write(tmp_path / "pkg3" / "agent.py", BUILDER + "g = saying('x')")
    assert await said(load(tmp_path, "pkg3.agent:g")) == "x"


async def test_what_dependencies_name_is_importable(tmp_path: Path) -> None:
    write(tmp_path / "libs" / "helpful" / "__init__.py", BUILDER)
    write(tmp_path / "agents" / "a.py", "from helpful import saying\ng = saying('x')")
    assert await said(load(tmp_path, "./agents/a.py:g", tmp_path / "libs")) == "x"


def test_a_file_is_imported_once_for_all_its_graphs(tmp_path: Path) -> None:
    write(tmp_path / "both.py", BUILDER + "a = saying('a')\nb = saying('b')\nleft.append(1)")
    load(tmp_path, "./both.py:a")
    sys.modules["both"].left.append(2)
    load(tmp_path, "./both.py:b")
    assert sys.modules["both"].left == [1, 2]


@pytest.mark.parametrize(
    ("code", "target", "sentence"),
    [
        ("", "./gone.py:g", r"there is no file .*gone\.py\. Correct 'graphs\.g'"),
        ("graph = saying('x')", "./a.py:g", r"no attribute 'g'; it has the graphs 'graph'\."),
        ("g = 1", "./a.py:g", "is a int, not a graph"),
        ("g = None", "./a.py:g", "is None, not a graph"),
        ("1/0", "./a.py:g", r"failed \(line \d+ of a\.py: 1/0\): ZeroDivisionError"),
        ("raise SystemExit(1)", "./a.py:g", "SystemExit"),
        ("import no_such_thing", "./a.py:g", "Install 'no-such-thing', or add the directory"),
        ("g = (", "./a.py:g", "SyntaxError"),
        ("g = StateGraph(State)", "./a.py:g", "does not compile"),
        ("def g(a, b, c): ...", "./a.py:g", "wants too many arguments"),
        ("", "no.such.module:g", "ModuleNotFoundError"),
    ],
)
def test_what_is_no_graph_is_said_in_a_sentence(
    tmp_path: Path, code: str, target: str, sentence: str
) -> None:
    write(tmp_path / "a.py", BUILDER + code)
    with pytest.raises(ConfigurationError, match=sentence) as raised:
        load(tmp_path, target)
    assert "'g'" in str(raised.value)


async def test_a_factory_that_makes_no_graph_fails_the_run_with_a_sentence(tmp_path: Path) -> None:
    write(tmp_path / "a.py", BUILDER + "def g(): return 1")
    outcome = await run(load(tmp_path, "./a.py:g"), order("g", input={}))
    assert outcome.output["__error__"] == {
        "error": "ConfigurationError",
        "message": "Graph 'g': the factory ./a.py:g returned a int, not a graph. "
        "Return a StateGraph or a compiled graph.",
    }


async def test_a_checkpointer_of_its_own_is_replaced_and_that_is_said(tmp_path: Path) -> None:
    write(
        tmp_path / "a.py",
        BUILDER + "from langgraph.checkpoint.memory import InMemorySaver\n"
        "g = saying('x').compile(checkpointer=InMemorySaver())",
    )
    loaded = load(tmp_path, "./a.py:g")
    [warning] = loaded.warnings
    assert "compiled with its own checkpointer" in warning
    saver = InMemorySaver()
    todo = order("g", input={"out": None})
    await run(loaded, todo, saver)
    assert await saver.aget_tuple({"configurable": {"thread_id": todo.thread_id}})
    assert loaded.graph is not None
    assert loaded.graph.checkpointer is not saver


async def test_a_graph_without_a_name_is_called_as_the_configuration_calls_it(
    tmp_path: Path,
) -> None:
    write(tmp_path / "a.py", BUILDER + "a = saying('x')\nb = saying('x').compile(name='mine')")
    names: list[str] = []
    for attribute in ("a", "b"):
        loaded = load(tmp_path, f"./a.py:{attribute}")
        async with loaded.open({}, checkpointer=None, store=None) as graph:
            names.append(graph.name)
    assert names == ["g", "mine"]
