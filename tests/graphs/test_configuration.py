"""What `langgraph.json` may say, and what is said to people when it says something else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from greenroom.core.errors import ConfigurationError
from greenroom.core.keeping import Keeping
from greenroom.graphs.configuration import (
    Configuration,
    PlacementSpec,
    parse_configuration,
    read_configuration,
)

ROOT = Path("/nowhere")


def parse(**content: Any) -> Configuration:
    return parse_configuration({"graphs": {"agent": "./agent.py:graph"}, **content}, ROOT)


def test_the_least_configuration_has_defaults_for_everything() -> None:
    found = parse()
    spec = found.graph("agent")
    assert (spec.source, spec.attribute, spec.description) == ("./agent.py", "graph", None)
    assert spec.placement == PlacementSpec()
    assert found.default_graph == "agent"
    assert (found.env, found.warnings, found.import_paths) == ({}, (), ())


def test_a_graph_may_be_an_object_with_a_description() -> None:
    spec = parse(graphs={"a": {"path": "pkg.mod:make", "description": "Does it."}}).graph("a")
    assert (spec.target, spec.description) == ("pkg.mod:make", "Does it.")


def test_our_section_places_graphs_and_its_defaults_are_for_all() -> None:
    found = parse(
        graphs={"a": "./a.py:g", "b": "./b.py:g"},
        greenroom={
            "defaults": {"num_cpus": 1, "timeout_s": 60},
            "graphs": {"a": {"num_gpus": 1, "runs_per_actor": 4, "resources": {"tpu": 2}}},
            "default_graph": "b",
        },
    )
    assert found.graph("a").placement == PlacementSpec(
        num_cpus=1.0, timeout_s=60.0, num_gpus=1.0, runs_per_actor=4, resources={"tpu": 2.0}
    )
    assert found.graph("b").placement == PlacementSpec(num_cpus=1.0, timeout_s=60.0)
    assert found.default_graph == "b"


def test_a_graph_may_ask_for_a_kind_of_node() -> None:
    wants = {"num_gpus": 0.5, "accelerator_type": "L4", "labels": {"zone": "in(a, b)"}}
    assert parse(greenroom={"graphs": {"agent": wants}}).graph("agent").placement == PlacementSpec(
        num_gpus=0.5, accelerator_type="L4", labels={"zone": "in(a, b)"}
    )


def test_with_several_graphs_none_is_the_default_unless_named() -> None:
    assert parse(graphs={"a": "./a.py:g", "b": "./b.py:g"}).default_graph is None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"graphs": {}}, "names no graph"),
        ({"graphs": {"a": "agent.py"}}, r"'graphs\.a' is 'agent\.py'; it must be"),
        ({"graphs": {"a": 1}}, r"'graphs\.a' is 1; it must be"),
        ({"greenroom": []}, "'greenroom' must be a JSON object, not a list"),
        ({"greenroom": {"graph": {}}}, r"'greenroom\.graph' is unknown; allowed are 'graphs'"),
        ({"greenroom": {"graphs": {"b": {}}}}, r"graph that does not exist; 'graphs' has 'agent'"),
        ({"greenroom": {"graphs": {"agent": {"gpus": 1}}}}, r"agent\.gpus' is unknown; allowed"),
        ({"greenroom": {"graphs": {"agent": {"warm": "2"}}}}, "a whole number, at least 0"),
        ({"greenroom": {"graphs": {"agent": {"warm": 1.5}}}}, "a whole number, at least 0"),
        ({"greenroom": {"graphs": {"agent": {"warm": True}}}}, "a whole number, at least 0"),
        ({"greenroom": {"defaults": {"overflow": -1}}}, "at least 0"),
        (
            {"greenroom": {"graphs": {"agent": {"overflow": 8, "max_actors": 1}}}},
            "'greenroom.graphs.agent' has 'overflow' 8 and 'max_actors' 1",
        ),
        (
            {"greenroom": {"defaults": {"overflow": 8, "max_runs_per_actor_life": 1}}},
            "'max_runs_per_actor_life' 1: a process would be replaced",
        ),
        ({"greenroom": {"graphs": {"agent": {"runs_per_actor": 0}}}}, "at least 1"),
        ({"greenroom": {"graphs": {"agent": {"num_cpus": -1}}}}, "a number, at least 0"),
        ({"greenroom": {"graphs": {"agent": {"num_cpus": float("nan")}}}}, "a number, at least 0"),
        ({"greenroom": {"graphs": {"agent": {"resources": {"x": "y"}}}}}, r"resources\.x' is 'y'"),
        (
            {"greenroom": {"graphs": {"agent": {"labels": {"zone": 1}}}}},
            r"labels\.zone' is 1; it mu",
        ),
        ({"greenroom": {"graphs": {"agent": {"labels": "a"}}}}, "must be a JSON object, not a str"),
        ({"greenroom": {"graphs": {"agent": {"accelerator_type": 4}}}}, r"_type' is 4; it must be"),
        ({"greenroom": {"default_graph": "b"}}, "it must be one of 'agent'"),
        ({"env": {"A": []}}, r"'env\.A' is \[\]; it must be a string"),
        ({"dependencies": "."}, "'dependencies' must be a list"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_is_allowed(content: Any, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        parse(**content)


@pytest.mark.parametrize("key", ["ui"])
def test_what_has_no_effect_is_said_loudly(key: str) -> None:
    [warning] = parse(**{key: {"path": "./x.py:y"}}).warnings
    assert warning.startswith(f"'{key}' is set, but ")


def test_what_of_the_checkpointer_has_no_effect_is_said() -> None:
    given = {"path": "./x.py:y", "ttl": {"default_ttl": 1}, "serde": {"pickle_fallback": True}}
    path, unknown = parse(checkpointer={**given, "backend": "x"}).warnings
    assert path.startswith("'checkpointer.path' is set, but ")
    assert unknown.startswith("'checkpointer.backend' is unknown")


@pytest.mark.parametrize(
    ("serde", "keeping"),
    [
        ({}, Keeping()),
        ({"pickle_fallback": False}, Keeping(pickle=False)),
        ({"allowed_msgpack_modules": None}, Keeping(types=frozenset())),
        ({"allowed_msgpack_modules": True}, Keeping(types=True)),
        ({"allowed_msgpack_modules": [["a.b", "C"]]}, Keeping(types=frozenset({("a.b", "C")}))),
        (
            {"allowed_json_modules": [["a", "b", "C"]]},
            Keeping(json_types=frozenset({("a", "b", "C")})),
        ),
    ],
)
def test_which_values_are_kept_may_be_said(serde: dict[str, Any], keeping: Keeping) -> None:
    assert parse(checkpointer={"serde": serde}).keeping == keeping


@pytest.mark.parametrize(
    ("serde", "told"),
    [
        ({"pickle_fallback": "no"}, "must be true or false"),
        ({"pickle": False}, "'checkpointer.serde.pickle' is unknown"),
        ({"allowed_msgpack_modules": False}, "must be a list of types"),
        ({"allowed_msgpack_modules": ["a.b.C"]}, "must be a list of types"),
        ({"allowed_msgpack_modules": [["C"]]}, "must be a list of types"),
        ({"allowed_json_modules": [["a", 1]]}, "'checkpointer.serde.allowed_json_modules' must"),
    ],
)
def test_rules_for_values_that_are_none_are_refused(serde: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        parse(checkpointer={"serde": serde})


def test_what_only_concerns_images_is_not_worth_a_word_but_the_unknown_is() -> None:
    assert parse(dockerfile_lines=["RUN x"], pip_config_file="p", node_version="20").warnings == ()
    [warning] = parse(grahps={}).warnings
    assert "'grahps'" in warning
    [warning] = parse(python_version="2.7").warnings
    assert "asks for 2.7" in warning


def test_local_dependencies_become_importable_and_missing_ones_are_named(tmp_path: Path) -> None:
    (tmp_path / "lib" / "src").mkdir(parents=True)
    content = {
        "graphs": {"a": "./a.py:g"},
        "dependencies": [".", "./lib", "./gone", "langchain"],
    }
    found = parse_configuration(content, tmp_path)
    assert found.import_paths == (tmp_path, tmp_path / "lib", tmp_path / "lib" / "src")
    [warning] = found.warnings
    assert "'./gone'" in warning


def test_a_file_is_read_with_its_env_beside_it(tmp_path: Path) -> None:
    (tmp_path / "langgraph.json").write_text(
        json.dumps({"graphs": {"a": "./a.py:g"}, "env": ".env"}), encoding="utf-8"
    )
    (tmp_path / ".env").write_text("KEY=value\n", encoding="utf-8")
    for path in (tmp_path, tmp_path / "langgraph.json"):
        found = read_configuration(path)
        assert (found.root, found.env) == (tmp_path, {"KEY": "value"})


def test_a_missing_or_broken_file_is_told_from_a_wrong_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="There is no configuration at"):
        read_configuration(tmp_path)
    (tmp_path / "langgraph.json").write_text('{"graphs": }', encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"not valid JSON: .* at line 1, column 12"):
        read_configuration(tmp_path)


def test_parsing_imports_no_graph_library() -> None:
    code = (
        "import sys, greenroom.graphs.configuration, greenroom.wire.encoding; "
        "print([m for m in sys.modules if m.split('.')[0] in ('langgraph', 'langchain_core')])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert found.stdout.strip() == "[]"


def test_applications_are_named_by_where_they_are_imported_from() -> None:
    found = parse(greenroom={"applications": {"llm": "my.models:app"}})
    assert found.applications == {"llm": "my.models:app"}


@pytest.mark.parametrize(
    ("name", "target", "sentence"),
    [
        ("greenroom", "my.models:app", "takes the server's own name"),
        ("llm", "./models.py:app", "must be 'package.module:application'"),
        ("llm", 7, "must be 'package.module:application'"),
    ],
)
def test_an_application_that_cannot_be_meant_is_refused(
    name: str, target: Any, sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        parse(greenroom={"applications": {name: target}})


def test_the_routes_of_openai_are_switched_on_without_a_word_about_them() -> None:
    assert not parse().http.openai
    found = parse(http={"openai": True})
    assert found.http.openai
    assert found.warnings == ()
    with pytest.raises(ConfigurationError, match=r"'http.openai' is 'yes'; it must be true"):
        parse(http={"openai": "yes"})
