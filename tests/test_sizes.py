"""A module and a class stay short enough to be read at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

MODULE_LINES = 400
CLASS_LINES = 300

EXCEPTIONS: dict[str, str] = {}
"""Longer ones, as `module` or `module.Class`, each with its reason."""


def sizes() -> Iterator[tuple[str, int, int]]:
    """Yields each module and each class of product and benchmarks: name, lines, and the limit."""
    folders = ("greenroom", "actors", "benchmarks")
    for file in sorted(file for folder in folders for file in ROOT.glob(f"{folder}/**/*.py")):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        text = file.read_text(encoding="utf-8")
        yield module, len(text.splitlines()), MODULE_LINES
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                yield f"{module}.{node.name}", lines, CLASS_LINES


def test_modules_and_classes_are_short_or_say_why_not() -> None:
    long = {name: lines for name, lines, limit in sizes() if lines > limit}
    assert sorted(long) == sorted(EXCEPTIONS), long
    assert all(EXCEPTIONS.values())
