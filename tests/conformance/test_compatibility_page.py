"""The page about compatibility says what the tables say, and the tables what there is."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.conformance.cases import CASES
from tests.conformance.compatibility import PAGE, page, read_outcome
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


def test_every_case_has_a_test_that_is_there() -> None:
    for name, case in CASES.items():
        assert "|" not in case.what + case.answer, name
        file, _, test = case.test.partition("::")
        assert f"def {test}(" in (HERE.parent / file).read_text(), name


def test_a_scenario_is_looked_up_with_and_without_its_parameters() -> None:
    some = next(iter(DIFFERENCES)).partition("[")[0]
    assert only_here("tests/conformance/test_gateway_mount.py::test_x[a]") is not None
    assert reason_of("tests/conformance/test_nothing.py::test_x[a::b]") is None
    assert any(key.startswith(some) for key in DIFFERENCES)


def test_as_many_scenarios_differ_as_the_table_has_at_least() -> None:
    outcome = read_outcome()
    assert outcome.differ >= len(DIFFERENCES)
    assert outcome.same > 300
