"""The lanes of a registry: one for each thread on which something is in flight."""

from __future__ import annotations

import ast
from pathlib import Path

from actors.registry import lanes as module
from actors.registry.lanes import Lanes


def test_a_question_makes_no_lane() -> None:
    lanes = Lanes()
    assert not lanes.has_runs("t")
    assert not lanes.is_waiting("t", "r")
    assert lanes.find("t") is None
    assert not lanes


def test_nobody_makes_a_lane_to_ask_it() -> None:
    """An empty lane that nobody tidies would stay for as long as the registry."""
    asked: list[str] = []
    for path in Path(module.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Call)
                and isinstance(node.value.func, ast.Attribute)
                and node.value.func.attr == "of"
                and ast.unparse(node.value.func.value).endswith("lanes")
            ):
                asked.append(f"{path.name}:{node.lineno}")
    assert not asked
