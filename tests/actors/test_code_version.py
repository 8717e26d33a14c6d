"""Actors of other code are told from those of this code by a digest of all the sources."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.common import code_version
from greenroom.graphs.configuration import Configuration, parse_configuration

ROOT = Path(__file__).parent.parent.parent


def configured(root: Path) -> Configuration:
    return parse_configuration({"graphs": {"a": "./a.py:g"}}, root)


def test_every_module_of_ours_and_of_the_graphs_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.py").write_text("g = 1\n")
    read: set[Path] = set()
    sources = code_version._sources

    def noting(root: Path) -> Iterator[Path]:
        for file in sources(root):
            read.add(file)
            yield file

    monkeypatch.setattr(code_version, "_sources", noting)
    code_version.code_version(configured(tmp_path))
    ours = {*ROOT.glob("greenroom/**/*.py"), *ROOT.glob("actors/**/*.py")}
    assert read == {*ours, tmp_path / "a.py"}


def test_a_change_of_a_source_is_another_version(tmp_path: Path) -> None:
    graph = tmp_path / "a.py"
    graph.write_text("g = 1\n")
    before = code_version.code_version(configured(tmp_path))
    assert code_version.code_version(configured(tmp_path)) == before
    graph.write_text("g = 2\n")
    assert code_version.code_version(configured(tmp_path)) != before
