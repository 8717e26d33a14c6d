"""What `greenroom new` and `greenroom examples` write can be served, and overwrites nothing."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from greenroom import projects
from greenroom.cli import main
from greenroom.core.errors import ConfigurationError
from greenroom.graph_check import GraphCheck
from greenroom.graphs.configuration import read_configuration
from greenroom.projects import Template, example_files, project_files, write_files

ROOT = Path(__file__).parent.parent


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.parametrize("template", Template)
def test_a_new_project_is_served_without_a_note(template: Template, tmp_path: Path) -> None:
    folder = tmp_path / "my project"
    assert run("new", str(folder), "--template", template) == 0
    configuration = read_configuration(folder)
    assert configuration.warnings == ()
    with GraphCheck(folder, factories=True) as graph_check:
        [report] = graph_check.finish()
    assert (report.graph_id, report.problem, report.warnings) == ("agent", None, ())


@pytest.mark.parametrize("template", Template)
def test_the_test_of_a_project_passes_or_says_what_it_needs(
    template: Template, tmp_path: Path
) -> None:
    write_files(tmp_path, project_files("x", template))
    environment = {name: text for name, text in os.environ.items() if name != "OPENAI_API_KEY"}
    # A project has pytest and none of the plugins that are installed here, which take seconds.
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    expected = "1 skipped" if template is Template.OPENAI else "1 passed"
    assert expected in ended.stdout, ended.stdout


@pytest.mark.parametrize("template", Template)
def test_the_readme_of_a_project_asks_its_graph(template: Template) -> None:
    files = project_files("x", template)
    words = shlex.split(files["README.md"].partition("curl ")[2].partition("```")[0])
    request = json.loads(words[words.index("-d") + 1])
    assert request["assistant_id"] in json.loads(files["langgraph.json"])["graphs"]


def test_a_project_is_called_like_its_folder_as_far_as_a_package_can_be() -> None:
    for folder, name in {
        "my agent": "my-agent",
        "été": "t",
        "über_1": "ber_1",
        "愛": "agent",
    }.items():
        files = project_files(folder, Template.CHAT)
        assert tomllib.loads(files["pyproject.toml"])["project"]["name"] == name
        assert files["README.md"].startswith(f"# {name}\n")


def test_what_is_secret_is_ignored_by_git() -> None:
    files = project_files("x", Template.OPENAI)
    assert {".env", ".greenroom/"} <= set(files[".gitignore"].splitlines())
    assert files[".env"] == files[".env.example"]


def test_new_says_what_to_type_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("new", str(tmp_path / "my project")) == 0
    shown = [line.strip() for line in capsys.readouterr().out.splitlines()]
    commands = shown[shown.index("Next:") + 1 :]
    there = shlex.quote(str(tmp_path / "my project"))
    assert [line for line in commands if line] == [
        f"cd {there}",
        "greenroom check",
        "greenroom serve",
    ]


def test_in_the_folder_itself_there_is_nowhere_to_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("new", ".") == 0
    assert "cd " not in capsys.readouterr().out
    assert (tmp_path / "langgraph.json").exists()


@pytest.mark.parametrize("command", ["new", "examples"])
def test_nothing_is_overwritten_and_nothing_else_written(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "langgraph.json").write_text("mine")
    assert run(command, str(tmp_path)) == 1
    told = capsys.readouterr().err
    assert f"{tmp_path} has langgraph.json already" in told
    assert "name another folder, or move it away" in told
    assert contents(tmp_path) == {"langgraph.json": b"mine"}


def test_a_link_that_leads_nowhere_is_somebodys_too(tmp_path: Path) -> None:
    (tmp_path / ".env").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match=r"has \.env already"):
        write_files(tmp_path, project_files("x", Template.CHAT))
    assert not (tmp_path / "elsewhere").exists()


def test_what_is_beside_a_new_project_stays(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert run("new", str(tmp_path)) == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("below", ["", "/deeper"])
def test_a_file_in_the_place_of_the_folder_is_named(
    below: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("mine")
    assert run("new", f"{tmp_path}/taken{below}") == 1
    told = capsys.readouterr().err
    assert "taken" in told
    assert "name another folder" in told
    assert (tmp_path / "taken").read_text() == "mine"


def test_an_unknown_template_is_refused_with_those_that_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("new", str(tmp_path / "x"), "--template", "nope") == 2
    told = capsys.readouterr().err
    assert all(template in told for template in Template)
    assert not (tmp_path / "x").exists()


def test_the_examples_are_copied_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("examples", str(tmp_path / "copy")) == 0
    assert "greenroom serve" in capsys.readouterr().out
    copied = contents(tmp_path / "copy")
    assert copied == {name: (ROOT / "examples" / name).read_bytes() for name in copied}
    assert {"langgraph.json", "README.md", "gpu_pipeline/langgraph.json"} <= set(copied)
    assert read_configuration(tmp_path / "copy").warnings == ()


def test_only_sources_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout that was served has compiled modules and a database beside its examples."""
    write_files(tmp_path, example_files())
    before = set(contents(tmp_path))
    for name in ("__pycache__/chat.pyc", ".greenroom/server.json", ".env"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    monkeypatch.setattr(projects, "examples_folder", lambda: tmp_path)
    assert set(example_files()) == before


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = tmp_path / "full"

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)  # to root every folder is open
    with pytest.raises(
        ConfigurationError, match=rf"{full}.* cannot be written \(Permission denied"
    ):
        write_files(full, {"a": ""})
