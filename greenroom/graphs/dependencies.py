"""Reads ``dependencies`` of `langgraph.json`: folders become importable, packages are installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from greenroom.core.errors import ConfigurationError


def import_paths_of(value: Any, root: Path) -> tuple[tuple[Path, ...], list[str]]:
    """Returns the directories of local ``dependencies``, and warnings; other dependencies must be
    installed already."""
    if not isinstance(value, list) or not all(
        isinstance(item, str) for item in cast(list[Any], value)
    ):
        raise ConfigurationError("'dependencies' must be a list of strings.")
    paths: list[Path] = []
    missing: list[str] = []
    for item in cast(list[str], value):
        if not item.startswith("."):
            continue
        path = (root / item).resolve()
        if path.is_dir():
            # A project in the "src layout" keeps its packages one level down.
            paths += [path, path / "src"] if (path / "src").is_dir() else [path]
        else:
            missing.append(item)
    warnings = [
        f"'dependencies' names {item!r}, which is no directory beside langgraph.json; it was"
        " skipped."
        for item in missing
    ]
    return tuple(dict.fromkeys(paths)), warnings
