"""The page about compatibility says what the tables say, and the tables what there is."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.conformance.cases import CASES, SHAPES
from tests.conformance.compatibility import PAGE, ROOT, page, read_outcome
from tests.conformance.differences import DIFFERENCES, ONLY_HERE, only_here, reason_of
from tests.conformance.folder import HERE


def scenarios() -> Iterator[str]:
    """``test_module.py::test_name`` of everything in this folder."""
    for module in HERE.glob("test_*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield f"{module.name}::{node.name}"


def test_the_page_is_what_the_tables_say() -> None:
    assert PAGE.read_text() == page(read_outcome()), "run `make conformance-reference`"


def test_every_difference_is_a_scenario() -> None:
    known = set(scenarios())
    assert {key.partition("[")[0] for key in DIFFERENCES} <= known
    assert set(ONLY_HERE) <= {name.partition("::")[0] for name in known}


def test_every_difference_has_one_sentence_of_reason() -> None:
    for scenario, reason in {**DIFFERENCES, **ONLY_HERE}.items():
        assert reason.endswith("."), scenario
        assert "|" not in reason, scenario
        assert "\n" not in reason, scenario


def test_a_scenario_is_looked_up_with_and_without_its_parameters() -> None:
    some = next(iter(DIFFERENCES)).partition("[")[0]
    assert only_here("tests/conformance/test_gateway_mount.py::test_x[a]") is not None
    assert reason_of("tests/conformance/test_nothing.py::test_x[a::b]") is None
    assert any(key.startswith(some) for key in DIFFERENCES)


def test_as_many_scenarios_differ_as_the_table_has_at_least() -> None:
    outcome = read_outcome()
    assert outcome.differ >= len(DIFFERENCES)
    assert outcome.same > 300


def test_every_case_names_a_test_that_there_is() -> None:
    assert len({case.id for case in CASES}) == len(CASES)
    for case in CASES:
        path, _, name = case.test.partition("::")
        assert "|" not in case.what + case.right, case.id
        text = (ROOT / path).read_text(encoding="utf-8")
        assert not name or f"def {name}(" in text, case.id


def test_every_project_is_told() -> None:
    folders = {
        file.relative_to(ROOT / "tests" / "projects").parts[0]
        for file in (ROOT / "tests" / "projects").rglob("langgraph.json")
    }
    assert folders == set(SHAPES)
