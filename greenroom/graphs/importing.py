"""Imports a user's graph file or module.

A file is imported under a name that every process of the server gives it, so that each of them
finds its classes when it reads a checkpoint that holds them. The name depends on the configuration
and on what is installed, never on what a process has imported before:

    its own      ``agent``, or ``package.agent`` by the ``__init__.py`` files above it, if an import
                 of that name finds this file
    a made one   ``agent_v2_1f2e3d4c``, if the name is none (``agent.v2.py``, ``1.5_chef.py``, a
                 package ``my-agent``) or belongs to another module (``email.py``, a second
                 ``agent.py``). The file is then found by its path; relative imports in it work.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from greenroom.core.errors import ConfigurationError
from greenroom.core.targets import Target
from greenroom.graphs.configuration import Configuration
from greenroom.graphs.import_errors import import_failed
from greenroom.graphs.module_path import OURS, make_importable


def load_target(
    target: Target,
    configuration: Configuration,
    *,
    suggestion: Callable[[ModuleType], str] = lambda module: "",
) -> Any:
    """Imports the object that a target names; blocks meanwhile.

    Args:
        suggestion: what the message of an error says about a module without such an object.

    Raises:
        ConfigurationError: the import failed, or there is no such object; the message names the
            target and the remedy.
    """
    module = _module_of(target, configuration)
    try:
        return getattr(module, target.attribute)
    except AttributeError:
        raise ConfigurationError(
            f"{target.subject}: {target.source} has no attribute {target.attribute!r}"
            f"{suggestion(module)}. Correct '{target.key}', which is {target.target!r}."
        ) from None


def _module_of(spec: Target, configuration: Configuration) -> ModuleType:
    root, graphs = configuration.root, configuration.graphs.values()
    # The directories of the files of all graphs are importable, for each of them.
    sources = [place for each in (*graphs, spec) if (place := _place(each, root)) is not None]
    project = [root, *configuration.import_paths]
    make_importable(project, [path for place in sources for path in place.directories])
    place = _place(spec, root)
    if place is None:
        return _imported(spec, spec.source, root)
    if not place.file.is_file():
        raise ConfigurationError(
            f"{spec.subject}: there is no file {place.file}. "
            f"Correct '{spec.key}', which is {spec.target!r}."
        )
    name = _named(place, root, project)
    module = _imported(spec, name, root)
    if _file(module) != place.file:
        raise ConfigurationError(
            f"{spec.subject}: {spec.source} would be imported as {name!r}, but that "
            f"name belongs to {_file(module)}. Rename it."
        )
    return module


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """The place of a graph's file.

    Attributes:
        file: the file, with links resolved.
        directory: the directory of its topmost package, or of the file if it is in none.
        parts: the names of its packages and its own; without the last one for an ``__init__.py``.
    """

    file: Path
    directory: Path
    parts: tuple[str, ...]

    @property
    def directories(self) -> list[Path]:
        """The directories that the file's own imports may start from."""
        plain = all(part.isidentifier() for part in self.parts[:-1])
        return [self.directory] if plain else [self.directory, self.file.parent]


def _place(spec: Target, root: Path) -> _Place | None:
    """Returns the place of a graph's file, or None for a module."""
    if not (spec.source.endswith(".py") or "/" in spec.source or "\\" in spec.source):
        return None
    file = (root / spec.source).resolve()
    if file.is_dir() and (file / "__init__.py").is_file():
        file = file / "__init__.py"
    directory = file.parent
    parts = [] if file.name == "__init__.py" else [file.stem]
    while (directory / "__init__.py").is_file():
        parts.insert(0, directory.name)
        directory = directory.parent
    return _Place(file=file, directory=directory, parts=tuple(parts))


def _named(place: _Place, root: Path, project: Sequence[Path]) -> str:
    """Returns the name of the module; registers a made name with `_ByPath`."""
    path, name = place.directory, ""
    for number, part in enumerate(place.parts):
        path = path / part
        is_package = number < len(place.parts) - 1 or place.file.name == "__init__.py"
        file = path / "__init__.py" if is_package else place.file
        own = part.isidentifier() and (number > 0 or _is_found(part, file, place, project))
        called = part if own else _made(part, path, root)
        name = f"{name}.{called}" if name else called
        if not own:
            _by_path.files[name] = file
    return name


def _is_found(name: str, file: Path, place: _Place, project: Sequence[Path]) -> bool:
    """Returns whether an import of a topmost name finds this file, in every process."""
    if name in sys.stdlib_module_names or name in OURS or _origin(name, sys.path) != file:
        return False
    # The project is found first. But a process may have imported an installed package of that name
    # already, unless it is an installed copy of this very project.
    installed = [path for path in sys.path if Path(path) not in project]
    other = _origin(name, installed)
    if other is None or other == file:
        return True
    copy = other.parent / place.file.relative_to(file.parent)
    return file.name == "__init__.py" and copy.is_file()


def _origin(name: str, paths: Sequence[str]) -> Path | None:
    found = importlib.machinery.PathFinder.find_spec(name, paths)
    return Path(found.origin).resolve() if found and found.origin else None


def _made(part: str, path: Path, root: Path) -> str:
    # Relative to the configuration, so that it is the same on every machine.
    digest = hashlib.sha256(Path(os.path.relpath(path, root)).as_posix().encode()).hexdigest()[:8]
    plain = re.sub(r"\W", "_", part)
    return f"{plain}_{digest}" if plain.isidentifier() else f"_{plain}_{digest}"


class _ByPath(MetaPathFinder):
    """Finds modules of made names.

    Attributes:
        files: the file of each, by name.
    """

    def __init__(self) -> None:
        self.files: dict[str, Path] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> importlib.machinery.ModuleSpec | None:
        file = self.files.get(fullname)
        if file is None:
            return None
        return importlib.util.spec_from_file_location(
            fullname,
            file,
            loader=importlib.machinery.SourceFileLoader(fullname, str(file)),
            submodule_search_locations=[str(file.parent)] if file.name == "__init__.py" else None,
        )


_by_path = _ByPath()
sys.meta_path.append(_by_path)


def _imported(spec: Target, name: str, root: Path) -> ModuleType:
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # it is the user's code that runs
        raise import_failed(spec, root, error) from error


def _file(module: ModuleType) -> Path | None:
    return Path(module.__file__).resolve() if module.__file__ else None
