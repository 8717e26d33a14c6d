"""What is said when a project's code fails: the line of the project, the cause, what to do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from greenroom.core.errors import ConfigurationError
from greenroom.graphs.configuration import Configuration, GraphSpec
from greenroom.graphs.loading import load_graph
from tests.graphs.test_loading import _imports_are_forgotten as _imports_are_forgotten
from tests.graphs.test_loading import write

TASK_GROUP = """
import asyncio
async def fetch():
    raise ValueError("no tools: the server said 503")
async def main():
    async with asyncio.TaskGroup() as outer:
        outer.create_task(inner())
async def inner():
    async with asyncio.TaskGroup() as group:
        group.create_task(fetch())
asyncio.run(main())
"""

SETTINGS = """
from pydantic_settings import BaseSettings
class Settings(BaseSettings):
    openai_api_key: str
    other: str = ""
settings = Settings()
"""


def problem(root: Path, target: str = "./agent.py:g", **paths: tuple[Path, ...]) -> str:
    graphs = {"g": GraphSpec(graph_id="g", target=target)}
    with pytest.raises(ConfigurationError) as raised:
        load_graph(Configuration(root=root, graphs=graphs, **paths), "g")
    return str(raised.value)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (
            "import os\nfrom pathlib import Path\nhere = Path(os.environ.get('NOT_SET'))",
            "Graph 'g': importing ./agent.py failed (line 3 of agent.py: here ="
            " Path(os.environ.get('NOT_SET'))): TypeError: ",  # the rest is each Python's own
        ),
        (
            "import os\nfrom pathlib import Path\nhere = Path(os.environ.get('NOT_SET'))",
            ". Set the variable 'NOT_SET': in 'env' of langgraph.json, in its file, or in the"
            " environment.",
        ),
        (
            "import os\nkey = os.environ['NOT_SET']",
            "(line 2 of agent.py: key = os.environ['NOT_SET']): KeyError: 'NOT_SET'. Set the"
            " variable 'NOT_SET': in 'env'",
        ),
        (
            "raise RuntimeError('The api_key must be set, by the NOT_SET_KEY environment variable')",  # noqa: E501
            "environment variable. Set the variable 'NOT_SET_KEY': in",
        ),
        (
            SETTINGS,
            "(line 6 of agent.py: settings = Settings()): ValidationError: 1 validation error for"
            " Settings openai_api_key Field required",
        ),
        (SETTINGS, "Set the variable 'OPENAI_API_KEY': in 'env'"),
        (
            TASK_GROUP,
            '(line 4 of agent.py: raise ValueError("no tools: the server said 503")): ValueError:'
            " no tools: the server said 503.",
        ),
        ("import broken", "(line 2 of broken.py: def f(:): SyntaxError: invalid syntax"),
        ("import broken", "Correct that line (this is Python 3."),
        ("import yaml", "Install 'PyYAML', or add the directory"),
        ("import langgraph_nothing.sub", "Install 'langgraph-nothing', or add"),
        ("from langgraph.checkpoint.sqlite import S", "Install 'langgraph-checkpoint-sqlite'"),
        ("import langgraph.nothing", "The installed langgraph 1."),
        ("import helpers", "It is in ./backend/lib: add './backend/lib' to 'dependencies'"),
        ("import actors.tools", "'actors' is a package of Greenroom: rename the project's own."),
        (
            "from calendar import create_event",
            "calendar.py has the name of a module of Python, which is what the import finds",
        ),
        ("import deep", "(line 1 of lib.py: 1/0): ZeroDivisionError: division by zero."),
        ("import asyncio\nasyncio.run(None)", "(line 2 of agent.py: asyncio.run(None)): "),
        ("raise SystemExit(2)", "SystemExit: 2. A graph's module must not end its process"),
    ],
)
def test_the_line_of_the_project_the_cause_and_what_to_do_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, sentence: str
) -> None:
    for name in ("NOT_SET", "NOT_SET_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    write(tmp_path / "agent.py", code)
    write(tmp_path / "broken.py", "x = 1\ndef f(:\n")
    write(tmp_path / "calendar.py", "def create_event(): ...")
    write(tmp_path / "deep.py", "import lib")
    write(tmp_path / "lib.py", "1/0")
    write(tmp_path / "backend" / "lib" / "helpers.py", "")
    write(tmp_path / "actors" / "tools.py", "")
    # Of this process, not of the project.
    monkeypatch.setitem(sys.modules, "yaml", None)
    said = problem(tmp_path)
    assert sentence in said
    assert "Traceback" not in said


def test_the_last_line_is_the_project_s_and_not_a_library_s(tmp_path: Path) -> None:
    library = tmp_path / "env" / "site-packages"
    write(library / "some_library.py", "def call(function):\n    raise OSError('inside')")
    write(tmp_path / "project" / "agent.py", "import some_library\nsome_library.call(print)")
    said = problem(tmp_path / "project", import_paths=(library,))
    assert "(line 2 of agent.py: some_library.call(print)): OSError: inside." in said


def test_a_message_of_any_length_and_form_becomes_a_sentence(tmp_path: Path) -> None:
    write(tmp_path / "agent.py", "raise ValueError('a\\n\\n b.' + 'x' * 10_000)")
    said = problem(tmp_path)
    assert "\n" not in said
    assert "ValueError: a b.xxx" in said
    assert len(said) < 1000
