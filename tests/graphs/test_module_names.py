"""Which name a graph's file is imported by: one that every process of the server gives it.

Each case runs in processes of its own, since an import changes the process.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

GRAPH = """
from dataclasses import dataclass
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict
{imports}

@dataclass
class Thing:
    word: str

class State(TypedDict, total=False):
    thing: Thing

def say(state: State):
    return {{"thing": Thing({word})}}

g = StateGraph(State).add_node(say).add_edge(START, "say").compile()
"""

LOAD = """
import asyncio, json, sys
from pathlib import Path
{before}
from greenroom.graphs.configuration import read_configuration
from greenroom.graphs.loading import load_graph
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

root, blobs, *graphs = sys.argv[1:]
blobs = json.loads(blobs)
configuration = read_configuration(Path(root))
found = {{}}
for graph_id in graphs:
    graph = load_graph(configuration, graph_id).graph
    thing = graph.invoke({{}})["thing"]
    kind, data = JsonPlusSerializer().dumps_typed(thing)
    found[graph_id] = [type(thing).__module__, thing.word, kind, data.hex()]
    if graph_id in blobs:
        kind, data = blobs[graph_id]
        again = JsonPlusSerializer().loads_typed((kind, bytes.fromhex(data)))
        assert type(again) is type(thing) and again == thing, again
print(json.dumps(found))
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def graph(word: str, imports: str = "") -> str:
    return GRAPH.format(word=word, imports=imports)


def load(
    root: Path, *graphs: str, blobs: dict[str, Any] | None = None, before: str = ""
) -> dict[str, list[str]]:
    """Loads graphs in a process of their own and runs them.

    Returns:
        by graph: the module of its class, the word that its node said, the instance as LangGraph's
        saver stores it.
    """
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-c", LOAD.format(before=before)),
            *(str(root), json.dumps(blobs or {}), *graphs),
        ],
        cwd=root,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


TREE = {
    "./agent.v2.py": "'x'",
    "./1.5_chef.py": "'x'",
    "./my agent - final (2).py": "'x'",
    "./агент.py": "'x'",
    "./class.py": "'x'",
    "./odd/email.py": "'x'",
    "./odd/json.py": "'x'",
    "./agents.v2/agent.py": "'x'",
    "./1st/agent.py": "'x'",
    "./plain/agent.py": "'x'",
    "./other/agent.py": "'y'",
    "./httpx.py": "'x'",
    "./greenroom.py": "'x'",
    "./pkg/inner/agent.py": "word",
    "./pkg/2.0/agent.py": "word",
    "./pkg/agent.v3.py": "word",
    "./my-pkg/agent.py": "word",
    "./3rd.pkg/agent.py": "word",
    "./email/agent.py": "word",
    "./whole-pkg/__init__.py": "word",
    "./my_agent/agent.py": "word",
}
"""The files of a project; those that say ``word`` import it from their package."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree") / "project"
    for target, word in TREE.items():
        file = root / target
        if word == "word":
            write(file.parent / "words.py", "word = 'x'\n")
            write(file.parent / "__init__.py", "")
            write(file, graph("word", "from .words import word"))
        else:
            write(file, graph(word))
    write(root / "pkg" / "__init__.py", "")
    write(root / "langgraph.json", json.dumps({"graphs": targets(), "dependencies": ["."]}))
    installed = root.parent / "installed"
    write(installed / "my_agent" / "__init__.py", "")
    write(installed / "my_agent" / "agent.py", graph("'an old copy'"))
    return root


@pytest.fixture(scope="module")
def found(tree: Path) -> dict[str, list[str]]:
    """What a process of all graphs says, by target."""
    before = f"sys.path.append({str(tree.parent / 'installed')!r})"
    loaded = load(tree, *targets(), before=before)
    return {target: loaded[graph_id] for graph_id, target in targets().items()}


def targets() -> dict[str, str]:
    return {f"g{number}": f"{target}:g" for number, target in enumerate(TREE)}


def test_a_graph_is_loaded_by_its_path_whatever_its_file_is_called(
    found: dict[str, list[str]],
) -> None:
    words = {target: word for target, (_, word, *_) in found.items()}
    assert words == {f"{target}:g": "y" if "other" in target else "x" for target in TREE}
    assert len({module for module, *_ in found.values()}) == len(TREE)


def test_a_file_keeps_its_own_name_where_an_import_would_find_it(
    found: dict[str, list[str]],
) -> None:
    modules = {target: module for target, (module, *_) in found.items()}
    assert modules["./агент.py:g"] == "агент"
    assert modules["./pkg/inner/agent.py:g"] == "pkg.inner.agent"
    assert modules["./agents.v2/agent.py:g"] == "agent"
    assert modules["./my_agent/agent.py:g"] == "my_agent.agent"
    assert modules["./agent.v2.py:g"].startswith("agent_v2_")


def test_every_process_gives_a_file_the_same_name_and_reads_what_another_one_wrote(
    tree: Path, found: dict[str, list[str]], tmp_path: Path
) -> None:
    """Of another node, of other graphs, in another order, after other imports."""
    project = Path(shutil.copytree(tree, tmp_path / "deep" / "project"))
    numbers = {target: graph_id for graph_id, target in targets().items()}
    blobs = {numbers[target]: stored for target, (_, _, *stored) in found.items()}
    before = "import httpx, email, rich"
    for graphs in (list(reversed(targets())), [numbers["./other/agent.py:g"]]):
        loaded = load(project, *graphs, blobs=blobs, before=before)
        assert loaded == {graph_id: found[targets()[graph_id]] for graph_id in graphs}


LIBRARY = ("email", "calendar", "queue", "types", "token", "secrets", "platform", "logging")
"""Modules of Python, as files of a project that nobody imports."""


def test_files_called_like_modules_of_python_hide_none_of_them(tmp_path: Path) -> None:
    """With the folder before the standard library, as Ray and ``python -m`` put it."""
    for name in (*LIBRARY, "select", "string", "random"):
        write(tmp_path / f"{name}.py", "raise SystemExit('of the project')")
    write(tmp_path / "agent.py", graph("'x'", f"import {', '.join(LIBRARY)}"))
    write(tmp_path / "langgraph.json", json.dumps({"graphs": {"g": "./agent.py:g"}}))
    before = "sys.path[:0] = ['', str(Path.cwd())]\nimport actors"
    assert load(tmp_path, "g", before=before)["g"][1] == "x"
