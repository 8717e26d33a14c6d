"""The glossary is kept: a term stands there once, and no public name has a word it replaced."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()


def terms() -> list[str]:
    return re.findall(r"^\| \*\*(.+?)\*\* \|", GLOSSARY, re.MULTILINE)


def forbidden() -> list[str]:
    """What the last column of our own tables names."""
    _, _, ours = GLOSSARY.partition("## Our words")
    rows = re.findall(r"^\| \*\*.*\|([^|]*)\|$", ours, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([\w.]+)`", row)]


def names_of(module: str, tree: ast.Module) -> Iterator[str]:
    """The public names that a module defines, dotted from the module on, and the module itself."""
    yield module
    for node in tree.body:
        yield from _names_in(module, node)


def _names_in(within: str, node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        if node.name == "__init__":
            yield from (f"{within}.{name}" for name in _attributes(node) if _is_public(name))
        elif _is_public(node.name):
            yield f"{within}.{node.name}"
    elif isinstance(node, ast.ClassDef) and _is_public(node.name):
        yield f"{within}.{node.name}"
        for each in node.body:
            yield from _names_in(f"{within}.{node.name}", each)
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            if isinstance(target, ast.Name) and _is_public(target.id):
                yield f"{within}.{target.id}"


def _attributes(constructor: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for node in ast.walk(constructor):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def _is_public(name: str) -> bool:
    return not name.startswith("_")


def words(name: str) -> list[str]:
    """The words of an identifier, in lower case."""
    return [each.lower() for each in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def is_called(name: str, forbidden_name: str) -> bool:
    """Whether a dotted name is what the glossary forbids."""
    if "." in forbidden_name:
        return f".{name}".endswith(f".{forbidden_name}")
    last = name.rpartition(".")[2]
    if forbidden_name != forbidden_name.lower():
        return last == forbidden_name
    found, sought = words(last), words(forbidden_name)
    starts = range(len(found) - len(sought) + 1)
    return any(found[start : start + len(sought)] == sought for start in starts)


def public_names() -> list[str]:
    found: list[str] = []
    for file in sorted([*ROOT.glob("greenroom/**/*.py"), *ROOT.glob("actors/**/*.py")]):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found += names_of(module, ast.parse(file.read_text(encoding="utf-8")))
    return found


def test_every_term_stands_in_the_glossary_once() -> None:
    assert [term for term, times in Counter(terms()).items() if times > 1] == []
    assert len(terms()) > 50


def test_no_term_is_forbidden_by_another() -> None:
    assert {term.replace(" ", "_") for term in terms()} & set(forbidden()) == set()


def test_no_public_name_has_a_word_that_the_glossary_replaced() -> None:
    known = public_names()
    assert len(known) > 2000
    wrong = [f"{name} ({old})" for old in forbidden() for name in known if is_called(name, old)]
    assert wrong == []


@pytest.mark.parametrize(
    ("name", "old", "expected"),
    [
        ("actors.a.Doings", "doings", True),
        ("actors.a.Registry.doings", "doings", True),
        ("actors.a.free_places", "free_places", True),
        ("actors.a.undoing", "doing", False),
        ("actors.a.hash_slot_of_thread", "SLOTS", False),
        ("actors.a.SLOTS", "SLOTS", True),
        ("greenroom.core.admission.Lane.stop", "Lane.stop", True),
        ("actors.server.server.Server.stop", "Lane.stop", False),
        ("actors.registry.pool.Pool", "pool.Pool", True),
        ("actors.registry.pool.ActorPool", "pool.Pool", False),
    ],
)
def test_an_old_name_is_found(name: str, old: str, expected: bool) -> None:
    assert is_called(name, old) is expected


def test_every_kind_of_public_name_is_read() -> None:
    tree = ast.parse(
        "A = 1\n_b = 2\nc: int = 3\n"
        "class D:\n    e: int\n    def __init__(self):\n        self.f = self._g = 1\n"
        "    async def h(self): ...\n    def _i(self): ...\n"
        "def j(): ...\nclass _K:\n    l: int\n"
    )
    found = [name.removeprefix("m.") for name in names_of("m", tree)]
    assert found == ["m", "A", "c", "D", "D.e", "D.f", "D.h", "j"]
