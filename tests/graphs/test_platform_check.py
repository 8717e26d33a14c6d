"""What the Platform would say about a langgraph.json."""

from __future__ import annotations

from typing import Any

import pytest

from greenroom.graphs.platform_check import refusals

GOOD = {"dependencies": ["."], "graphs": {"a": "./a.py:graph"}}


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        {**GOOD, "python_version": "3.11", "env": {"A": "1"}, "greenroom": {}, "unknown": 1},
        {**GOOD, "python_version": "3.12.1", "env": ".env"},
        {"graphs": GOOD["graphs"], "source": {"kind": "uv"}},
    ],
)
def test_what_it_would_serve_has_no_note(content: Any) -> None:
    assert refusals(content) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dependencies": []}, "'dependencies'"),
        ({"dependencies": None}, "'dependencies'"),
        ({"graphs": {}}, "a graph in 'graphs'"),
        ({"python_version": "3.9"}, "'python_version' is 3.9"),
        ({"env": {"B": 1, "A": True, "C": "x"}}, "strings (A, B)"),
    ],
)
def test_what_it_would_refuse_is_said(changes: Any, reason: str) -> None:
    (said,) = refusals({**GOOD, **changes})
    assert said.startswith("The Platform would refuse this langgraph.json: ")
    assert reason in said
