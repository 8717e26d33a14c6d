"""What ``env`` of `langgraph.json` gives the graphs' processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from greenroom.core.errors import ConfigurationError
from greenroom.graphs.configuration import parse_configuration, read_configuration
from greenroom.graphs.variables import read_env

GRAPHS = {"graphs": {"agent": "./agent.py:graph"}}


def test_an_env_file_that_no_clone_has_is_a_note(tmp_path: Path) -> None:
    found = parse_configuration({**GRAPHS, "env": ".env"}, tmp_path)
    assert found.env == {}
    assert found.warnings == (
        "'env' names the file '.env', which does not exist; the graphs get no variables from it.",
    )


@pytest.mark.parametrize("template", [".env.example", ".env.sample", ".env.template"])
def test_the_note_names_the_template_that_a_clone_has_instead(
    tmp_path: Path, template: str
) -> None:
    (tmp_path / template).write_text("KEY=\n", encoding="utf-8")
    [note] = parse_configuration({**GRAPHS, "env": ".env"}, tmp_path).warnings
    assert note.endswith(f"Copy '{template}' to it and fill it in.")


def test_an_env_file_in_a_folder_that_does_not_exist_is_a_note_too(tmp_path: Path) -> None:
    content = {**GRAPHS, "env": "./config/.env"}
    (tmp_path / "langgraph.json").write_text(json.dumps(content), encoding="utf-8")
    [note] = read_configuration(tmp_path).warnings
    assert "'./config/.env'" in note


def test_no_name_of_an_env_file_is_none(tmp_path: Path) -> None:
    found = parse_configuration({**GRAPHS, "env": ""}, tmp_path)
    assert (found.env, found.warnings) == ({}, ())


def test_files_may_begin_with_the_mark_of_windows(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("KEY=1\nOTHER=2\n", encoding="utf-8-sig")
    content = json.dumps({**GRAPHS, "env": ".env"})
    (tmp_path / "langgraph.json").write_text(content, encoding="utf-8-sig")
    assert read_configuration(tmp_path).env == {"KEY": "1", "OTHER": "2"}


def test_an_env_file_that_is_there_and_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name in (".", "binary"):
        with pytest.raises(ConfigurationError, match=f"names the file '{name}', which cannot be"):
            parse_configuration({**GRAPHS, "env": name}, tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# comment\nA=1\n\n  # another\nB=\n", {"A": "1", "B": ""}),
        ("PLAIN=a=b=c", {"PLAIN": "a=b=c"}),
        ("PLAIN=a=b=c\nINTERP=${PLAIN}-x", {"PLAIN": "a=b=c", "INTERP": "a=b=c-x"}),
        ("A='${OUTSIDE}'\nB=${NOWHERE:-other}\nC=${NOWHERE}", {"A": "out", "B": "other", "C": ""}),
        ("OUTSIDE=in\nA=${OUTSIDE}", {"OUTSIDE": "in", "A": "in"}),
        ("A=$PLAIN", {"A": "$PLAIN"}),
        ("export A='x # y' # why\nexport B=1", {"A": "x # y", "B": "1"}),
        ("A=\"a\\nb\"\nB='a\\nb'\nC=a\\nb", {"A": "a\nb", "B": "a\\nb", "C": "a\\nb"}),
        ('A="say \\"hi\\""\nB=\'it\\\'s\'', {"A": 'say "hi"', "B": "it's"}),
        (
            "A = spaced out \nB=a#b\nC=a #b\nD=#none",
            dict(A="spaced out", B="a#b", C="a", D="#none"),
        ),
        ('A="over\nlines"\r\nB=1\r\n', {"A": "over\nlines", "B": "1"}),
        ("A=1\nA=2", {"A": "2"}),
        ("nonsense\nA=1", {"A": "1"}),
    ],
)
def test_env_files_are_read_as_python_dotenv_reads_them(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: dict[str, str]
) -> None:
    monkeypatch.setenv("OUTSIDE", "out")
    monkeypatch.delenv("NOWHERE", raising=False)
    assert read_env(text) == expected


def test_a_file_of_the_configuration_is_read_so(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("KEY=value\nURL=http://${KEY}/?a=b\n", encoding="utf-8")
    content = {"graphs": {"agent": "./agent.py:graph"}, "env": ".env"}
    found = parse_configuration(content, tmp_path)
    assert found.env == {"KEY": "value", "URL": "http://value/?a=b"}


def test_langgraph_config_has_the_defaults_of_each_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGGRAPH_CONFIG", '{"agent": {"recursion_limit": 7}}')
    found = parse_configuration(GRAPHS, Path())
    assert found.graph("agent").defaults == {"recursion_limit": 7}
    given = {"agent": {"configurable": {"model": "small"}}, "other": {}}
    found = parse_configuration({**GRAPHS, "env": {"LANGGRAPH_CONFIG": json.dumps(given)}}, Path())
    assert found.graph("agent").defaults == given["agent"]
    [note] = found.warnings
    assert "'other'" in note


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "LANGGRAPH_CONFIG is not valid JSON: .* It must be an object by graph"),
        ("[]", "'LANGGRAPH_CONFIG' must be a JSON object, not a list"),
        ('{"agent": 1}', r"'LANGGRAPH_CONFIG\.agent' must be a JSON object"),
        (
            '{"agent": {"configurable": []}}',
            r"'LANGGRAPH_CONFIG\.agent\.configurable' must be a JSON object",
        ),
    ],
)
def test_a_langgraph_config_that_is_none_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        parse_configuration({**GRAPHS, "env": {"LANGGRAPH_CONFIG": text}}, Path())
