"""Tests ask what others may ask: they reach into private attributes in few places.

A test that reads a private attribute holds an implementation, not a behaviour. A class that a test
has to look into gets a public attribute or an argument of its constructor.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent

MOST = {
    # Five of them are Ray's own, which the adapter of Ray uses.
    "actors": 22,
    "auth": 1,
    "clients": 4,
    "core": 3,
    "graphs": 8,
    "http": 3,
    "models": 4,
    "notebook": 1,
    "persistence": 8,
}
"""The most places by folder; the aim is none. Lower a number when you can, and raise none."""

PUBLIC = ("_exit", "_repr_html_", "_repr_png_")
"""Names of Python and of IPython that are public in spite of their underscore."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in PUBLIC


def reached(tree: ast.AST) -> Iterator[str]:
    """Yields the private names that a module reaches for: not those of ``self`` and ``cls``."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                pass
            case ast.Attribute(attr=name) if is_private(name):
                yield name
            case ast.ImportFrom(names=names):
                yield from (each.name for each in names if is_private(each.name))
            case ast.Call(func=ast.Attribute(attr="setattr" | "delattr"), args=given):
                texts = [each.value for each in given if isinstance(each, ast.Constant)]
                names = [each.rpartition(".")[2] for each in texts if isinstance(each, str)]
                yield from filter(is_private, names)
            case _:
                pass


def test_tests_reach_into_few_private_attributes() -> None:
    found: Counter[str] = Counter()
    for file in TESTS.rglob("*.py"):
        path = file.relative_to(TESTS)
        if path.parts[0] != "projects":  # as other people write them
            folder = path.parts[0] if len(path.parts) > 1 else ""
            found[folder] += len([*reached(ast.parse(file.read_text(encoding="utf-8")))])
    more = {folder: n for folder, n in found.items() if n > MOST.get(folder, 0)}
    assert not more, more


def test_the_finder_sees_every_form() -> None:
    text = """
from a import _b, c
self._own, cls._own, d._e, f()._g.h, os._exit(1), i.__class__
patch.setattr(j, "_k", 1)
patch.setattr("l.m._n", 1)
"""
    assert sorted(reached(ast.parse(text))) == ["_b", "_e", "_g", "_k", "_n"]
