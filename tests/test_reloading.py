"""What is taken up of a changed project, and what the terminal says."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from watchfiles import Change

from greenroom.core.errors import ConfigurationError
from greenroom.graphs.configuration import Configuration, read_configuration
from greenroom.reloading import ProjectFilter, TakingUp, reloading
from greenroom.settings import Settings
from tests.actors.doubles import BOUND_S

GRAPH = """
from typing_extensions import TypedDict
from langgraph.graph import START, StateGraph


class State(TypedDict):
    x: int


builder = StateGraph(State)
builder.add_node("a", lambda state: state)
builder.add_edge(START, "a")
graph = builder.compile()
"""


class Server:
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.renewed = 0
        self.deployed: list[Configuration] = []
        self.heard = threading.Event()

    def renew(self) -> Sequence[str]:
        self.renewed += 1
        self.heard.set()
        return self.problems

    def redeploy(self, configuration: Configuration) -> None:
        self.deployed.append(configuration)
        self.heard.set()


class Project:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "langgraph.json"
        self.write("g.py", GRAPH)
        self.write(".env", "A=1")
        self.configure()
        self.server = Server()
        self.settings = Settings.read(config=self.config, data_dir=root / "data", reload=True)
        (root / "data").mkdir()

    def write(self, name: str, text: str) -> Path:
        (self.root / name).write_text(text)
        return self.root / name

    def configure(self, **more: Any) -> Path:
        content = {"dependencies": ["."], "graphs": {"g": "./g.py:graph"}, "env": ".env", **more}
        return self.write("langgraph.json", json.dumps(content))

    def taking_up(self) -> TakingUp:
        return TakingUp(self.settings, self.configuration, self.server)

    @property
    def configuration(self) -> Configuration:
        return read_configuration(self.config)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_file_of_code_renews_the_actors(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.taking_up().take_up([project.root / "g.py", project.root / "prompts" / "a.md"])
    assert (project.server.renewed, project.server.deployed) == (1, [])
    assert "g.py, prompts/a.md: taken up in" in capsys.readouterr().err


def test_why_code_is_not_taken_up_stands_on_the_terminal(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.server.problems = ["Graph 'g': importing ./g.py failed."]
    project.taking_up().take_up([project.root / "g.py"])
    said = capsys.readouterr().err
    assert "importing ./g.py failed. The code from before goes on." in said
    assert "taken up in" not in said


@pytest.mark.parametrize("name", ["langgraph.json", ".env"])
def test_another_configuration_is_deployed(project: Project, name: str) -> None:
    taking_up = project.taking_up()
    if name == ".env":
        file = project.write(name, "A=2")
    else:
        file = project.configure(graphs={"g": "./g.py:graph", "h": "./g.py:graph"})
    taking_up.take_up([file])
    assert project.server.deployed == [project.configuration]
    # Saved once more as it is: nothing has changed.
    taking_up.take_up([file])
    assert len(project.server.deployed) == 1
    assert project.server.renewed == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "langgraph.json"),
        ('{"graphs": {"g": "./absent.py:graph"}}', "absent.py"),
        ('{"graphs": {"g": "./g.py:graph"}, "env": 5}', "env"),
    ],
)
def test_a_configuration_that_cannot_be_served_is_refused(
    project: Project, content: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    taking_up = project.taking_up()
    taking_up.take_up([project.write("langgraph.json", content)])
    assert project.server.deployed == []
    shown = capsys.readouterr().err
    assert said in shown
    assert "The code from before goes on." in shown
    taking_up.take_up([project.configure(store={"ttl": {"default_ttl": 5}})])
    assert len(project.server.deployed) == 1


def test_code_that_the_gateway_has_imported_is_deployed(project: Project) -> None:
    """Handlers of `auth` are in the gateway, which cannot be renewed otherwise."""
    auth = "from langgraph_sdk import Auth\nauth = Auth()\n@auth.authenticate\nasync def who():\n"
    project.write("handlers.py", f"{auth}    return 'ada'\n")
    project.configure(auth={"path": "./handlers.py:auth"})
    taking_up = project.taking_up()
    taking_up.take_up([project.root / "handlers.py"])
    assert len(project.server.deployed) == 1
    taking_up.take_up([project.root / "prompt.md"])
    assert (project.server.renewed, len(project.server.deployed)) == (1, 1)


def test_of_a_project_code_texts_and_the_configuration_are_watched(project: Project) -> None:
    selects = ProjectFilter(project.config, project.root / "data")
    seen = ("g.py", "lib/a.py", "prompts/system.md", "langgraph.json", ".env", ".env.local")
    unseen = ("data/a.py", "__pycache__/g.py", ".venv/lib/a.py", "node_modules/a.json", "x.sqlite")
    for name in seen:
        assert selects(Change.modified, str(project.root / name)), name
    for name in unseen:
        assert not selects(Change.modified, str(project.root / name)), name


def test_a_save_is_noticed_until_the_server_ends(project: Project) -> None:
    with reloading(project.settings, project.configuration, project.server):
        # The watch may begin a moment later: a change before that is none.
        for number in range(100):
            project.write("g.py", f"{GRAPH}# {number}\n")
            if project.server.heard.wait(BOUND_S / 100):
                break
    assert project.server.renewed
    renewed = project.server.renewed
    project.write("g.py", GRAPH)
    assert project.server.renewed == renewed


def test_an_error_of_the_server_does_not_end_the_watch(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(configuration: Configuration) -> None:
        raise ConfigurationError("The gateway does not start.")

    monkeypatch.setattr(project.server, "redeploy", fail)
    taking_up = project.taking_up()
    taking_up.take_up([project.write(".env", "A=3")])
    assert "The gateway does not start." in capsys.readouterr().err
    monkeypatch.undo()
    taking_up.take_up([project.root / ".env"])
    assert len(project.server.deployed) == 1
