"""Imports a user's graph file or module.

A file within a package is imported by its package name, with the package's root on ``sys.path``:
loading it by path would break its relative imports. A file outside a package is imported by its
own name, so that another process finds its classes when it reads a checkpoint that holds them.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType

from greenroom.core.errors import ConfigurationError
from greenroom.core.raised import message_of, name_of
from greenroom.graphs.configuration import GraphSpec


def make_importable(path: Path) -> None:
    """Puts a directory at the front of ``sys.path``, unless ``sys.path`` has it already."""
    if str(path) not in sys.path:
        sys.path.insert(0, str(path))


def module_of(spec: GraphSpec, root: Path) -> ModuleType:
    if not (spec.source.endswith(".py") or "/" in spec.source or "\\" in spec.source):
        return _imported(spec, spec.source)
    file = (root / spec.source).resolve()
    if file.is_dir() and (file / "__init__.py").is_file():
        file = file / "__init__.py"
    if not file.is_file():
        raise ConfigurationError(
            f"Graph {spec.graph_id!r}: there is no file {file}. "
            f"Correct 'graphs.{spec.graph_id}', which is {spec.target!r}."
        )
    directory, name = _package(file)
    make_importable(directory)
    if "." in name or file.name == "__init__.py":
        module = _imported(spec, name)
        if _file(module) != file:
            raise ConfigurationError(
                f"Graph {spec.graph_id!r}: {spec.source} would be imported as {name!r}, but that "
                f"name belongs to {_file(module)}. Rename the package."
            )
        return module
    return _lone_file(spec, file, name)


def _package(file: Path) -> tuple[Path, str]:
    """Returns the directory to import from and the dotted name, by the ``__init__.py`` files."""
    directory = file.parent
    parts = [] if file.name == "__init__.py" else [file.stem]
    while (directory / "__init__.py").is_file() and directory.name.isidentifier():
        parts.insert(0, directory.name)
        directory = directory.parent
    return directory, ".".join(parts)


def _lone_file(spec: GraphSpec, file: Path, name: str) -> ModuleType:
    present = sys.modules.get(name)
    if present is not None and _file(present) == file:
        return present
    if present is not None or not name.isidentifier() or _elsewhere(name, file):
        digest = hashlib.sha256(str(file).encode()).hexdigest()[:8]
        name = f"{re.sub(r'[^0-9A-Za-z_]', '_', name)}_{digest}"
        if name in sys.modules:
            return sys.modules[name]
    found = importlib.util.spec_from_file_location(name, file)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    try:
        found.loader.exec_module(module)
    except BaseException as error:  # it is the user's code that runs
        del sys.modules[name]
        if isinstance(error, KeyboardInterrupt):
            raise
        raise _failed(spec, error) from error
    return module


def _elsewhere(name: str, file: Path) -> bool:
    """Returns whether importing ``name`` would import another file than this one."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return False
    return found is not None and found.origin != str(file)


def _imported(spec: GraphSpec, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # it is the user's code that runs
        raise _failed(spec, error) from error


def _file(module: ModuleType) -> Path | None:
    return Path(module.__file__).resolve() if module.__file__ else None


def _failed(spec: GraphSpec, error: BaseException) -> ConfigurationError:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_users(f.filename)]
    where = f" (line {frames[-1].lineno} of {frames[-1].filename})" if frames else ""
    advice = ""
    if isinstance(error, ModuleNotFoundError):
        advice = (
            f" Install {error.name!r}, or add the directory that holds it to 'dependencies' "
            "of langgraph.json."
        )
    return ConfigurationError(
        f"Graph {spec.graph_id!r}: importing {spec.source} failed{where}: "
        f"{name_of(error)}: {message_of(error)}.{advice}"
    )


def _is_users(filename: str) -> bool:
    return filename != __file__ and "importlib" not in filename and "site-packages" not in filename
