"""`greenroom check` and `greenroom serve --allow-broken`: what is found before a start."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from greenroom import graph_check
from greenroom.core.errors import ConfigurationError
from greenroom.graph_check import GraphCheck
from greenroom.graphs.configuration import parse_configuration
from greenroom.graphs.loading import load_graph
from tests.graphs.graph_driver import order, run

GRAPHS = """
import os, signal, time
from langgraph.graph import START, MessagesState, StateGraph

def answer(state): return {}
builder = StateGraph(MessagesState).add_node(answer).add_edge(START, "answer")
graph = builder.compile()

def good(config):
    assert config["configurable"]["thread_id"]
    return builder

async def by_default(config): return {"x": builder}[config["configurable"]["pick"]]
def needy(config): return config["configurable"]["user"]
def wrong(): return 1
def importing(): import no_such_module
def keyless(): return os.environ["NOT_SET_AT_ALL"]
def deadly(): os.kill(os.getpid(), signal.SIGKILL)
def hanging(): time.sleep(600)
"""
NAMES = (
    *("graph", "good", "by_default", "needy", "wrong", "importing"),
    *("keyless", "deadly", "hanging", "crash", "last"),
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "graphs.py").write_text(GRAPHS)
    (tmp_path / "crash.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    targets = {name: f"./graphs.py:{name}" for name in NAMES}
    targets |= {"crash": "./crash.py:graph", "last": "./graphs.py:graph"}
    defaults = {"by_default": {"configurable": {"pick": "x"}}}
    content = {"graphs": targets, "env": {"LANGGRAPH_CONFIG": json.dumps(defaults)}}
    (tmp_path / "langgraph.json").write_text(json.dumps(content))
    return tmp_path


def test_each_graph_is_imported_and_each_factory_called_whatever_the_others_do(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_check, "FACTORY_S", 2.0)
    with GraphCheck(project, factories=True) as check:
        found = {report.graph_id: report for report in check.finish()}
    assert tuple(found) == NAMES
    for name in ("graph", "good", "by_default", "last"):
        report = found[name]
        assert (report.nodes, report.chats, report.warnings) == (("answer",), True, ())
    problems = {name: report.problem for name, report in found.items() if report.problem}
    assert set(problems) == {"wrong", "importing", "deadly", "crash"}
    assert "returned a int, not a graph" in problems["wrong"]
    assert "Install 'no-such-module'" in problems["importing"]
    assert "signal 9" in problems["deadly"]
    assert "signal 11" in problems["crash"]
    assert "KeyError: 'user'. It was called without a run" in found["needy"].warnings[0]
    assert "(line 17 of graphs.py: " in found["keyless"].warnings[0]
    assert "Set the variable 'NOT_SET_AT_ALL'" in found["keyless"].warnings[0]
    assert found["hanging"].warnings == (
        "Graph 'hanging': its factory ./graphs.py:hanging takes more than 2 s.",
    )


def test_a_server_may_tolerate_broken_graphs_but_not_only_such(tmp_path: Path) -> None:
    (tmp_path / "graphs.py").write_text(GRAPHS)
    (tmp_path / "broken.py").write_text("1/0\n")
    graphs = {"bad": "./broken.py:graph", "graph": "./graphs.py:graph"}
    (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": graphs}))
    with GraphCheck(tmp_path, tolerant=True) as check:
        assert list(check.problems()) == ["bad"]
        assert [each.graph_id for each in check.refuse_broken(wait=True)] == ["bad", "graph"]
    del graphs["graph"]
    (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": graphs}))
    with GraphCheck(tmp_path, tolerant=True) as check:
        with pytest.raises(ConfigurationError, match="ZeroDivisionError"):
            check.problems()


def test_a_javascript_graph_is_broken_and_keeps_no_other_one(tmp_path: Path) -> None:
    (tmp_path / "graphs.py").write_text(GRAPHS)
    both = {"web": "./src/agent.ts:graph", "graph": "./graphs.py:graph"}
    (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": both}))
    with GraphCheck(tmp_path, tolerant=True) as check:
        assert [report.graph_id for report in check.refuse_broken(wait=True)] == ["web", "graph"]
        assert list(check.problems()) == ["web"]
    with GraphCheck(tmp_path) as check:
        with pytest.raises(
            ConfigurationError, match=r"'web' is a JavaScript graph .*Python graphs only"
        ):
            check.refuse_broken(wait=True)


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"auth": {"path": "./shared.py:nope"}}, "'auth.path'"),
        ({"http": {"app": "./shared.py:nope"}}, "'http.app'"),
        ({"http": {"app": "./shared.py:number"}}, "int and not a Starlette or FastAPI application"),
        ({"http": {"app": "./needy.py:app"}}, "Install 'no-such-module'"),
        ({"encryption": {"path": "./needy.py:encryption"}}, "Install 'no-such-module'"),
        ({"store": {"index": {"dims": 2, "embed": "./needy.py:embed"}}}, "no_such_module"),
    ],
)
def test_what_all_graphs_share_is_loaded_before_a_start(
    tmp_path: Path, section: dict[str, Any], told: str
) -> None:
    (tmp_path / "graphs.py").write_text(GRAPHS)
    (tmp_path / "shared.py").write_text("number = 1\n")
    (tmp_path / "needy.py").write_text("import no_such_module\n")
    content = {"graphs": {"graph": "./graphs.py:graph"}, **section}
    (tmp_path / "langgraph.json").write_text(json.dumps(content))
    with GraphCheck(tmp_path, tolerant=True) as check:
        with pytest.raises(ConfigurationError, match=re.escape(told)):
            check.refuse_broken(wait=True)


async def test_a_run_of_a_broken_graph_ends_with_the_reason_and_does_not_import_it() -> None:
    content = {"graphs": {"bad": "./this/would/raise.py:g", "other": "./a.py:g"}}
    configuration = parse_configuration(content, Path("/nowhere"))
    configuration = configuration.with_problems({"bad": "Graph 'bad': it is broken."})
    assert configuration.problems == {"bad": "Graph 'bad': it is broken."}
    outcome = await run(load_graph(configuration, "bad"), order("bad", input={}))
    assert outcome.output["__error__"] == {
        "error": "ConfigurationError",
        "message": "Graph 'bad': it is broken.",
    }
