"""Explains the failure of a project's code during its import, or during a call of its factory.

A sentence names the last line of the *project's* code, because the developer cannot change the
libraries below it. For a group it is the line of the innermost exception, and for a syntax error
the line with the error. The sentence also names the correction, if it is known: a package to
install, a variable, a file to rename.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import linecache
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from greenroom.core.errors import ConfigurationError
from greenroom.core.raised import message_of, name_of
from greenroom.core.targets import Target
from greenroom.graphs.configuration import FILE_NAME
from greenroom.graphs.graph_entries import GraphSpec
from greenroom.graphs.module_path import OURS

MESSAGE_MAX = 600
"""The most characters of an exception's message in a sentence."""

SEARCHED = 2_000
"""The most folders of a project that are searched for a module that was not found."""

_LIBRARY = sysconfig.get_paths()["stdlib"]
_INSTALLED = ("site-packages", "dist-packages")

DISTRIBUTIONS = {
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "Crypto": "pycryptodome",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu",
    "fitz": "PyMuPDF",
    "git": "GitPython",
    "google.generativeai": "google-generativeai",
    "google.genai": "google-genai",
    "jwt": "PyJWT",
    "langgraph.checkpoint.mongodb": "langgraph-checkpoint-mongodb",
    "langgraph.checkpoint.redis": "langgraph-checkpoint-redis",
    "langgraph.checkpoint.sqlite": "langgraph-checkpoint-sqlite",
    "langgraph.prebuilt": "langgraph-prebuilt",
    "magic": "python-magic",
    "OpenSSL": "pyOpenSSL",
    "PIL": "pillow",
    "pptx": "python-pptx",
    "psycopg2": "psycopg2-binary",
    "serpapi": "google-search-results",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "tavily": "tavily-python",
    "yaml": "PyYAML",
}
"""Packages whose name for pip does not follow from the name of their module."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    """A line of code: its file, its number, and its text."""

    file: str
    number: int
    text: str


def import_failed(spec: Target, root: Path, error: BaseException) -> ConfigurationError:
    """Returns the error for a target whose module does not import.

    Args:
        root: the directory of the configuration.
        error: the exception of the import.
    """
    return called_failed(f"{spec.subject}: importing {spec.source} failed", root, error)


def factory_failed(spec: GraphSpec, root: Path, error: BaseException) -> ConfigurationError:
    """Returns the error for a graph whose factory raised an exception."""
    return called_failed(f"{spec.subject}: its factory {spec.target} failed", root, error)


def is_missing_code(error: BaseException) -> bool:
    """Returns whether code is missing or malformed, so that no call can succeed."""
    inner = list(_inward(error))[-1]
    return isinstance(inner, ImportError | SyntaxError)


def called_failed(what: str, root: Path, error: BaseException) -> ConfigurationError:
    """Returns the error for code of the project that raised an exception.

    Args:
        what: the beginning of the sentence, e.g. "Graph 'a': importing ./a.py failed".
    """
    chain = list(_inward(error))
    line = _line_of(chain, root)
    where = ""
    if line is not None:
        text = f": {line.text}" if line.text else ""
        where = f" (line {line.number} of {_shown(line.file, root)}{text})"
    inner = chain[-1]
    message = " ".join(message_of(inner).split())
    if len(message) > MESSAGE_MAX:
        message = f"{message[:MESSAGE_MAX]}..."
    said = f"{name_of(inner)}: {message}" if message else name_of(inner)
    advice = _advice(inner, line, root)
    return ConfigurationError(f"{what}{where}: {said.rstrip('.')}.{advice and ' ' + advice}")


def _inward(error: BaseException) -> Iterator[BaseException]:
    """Yields an exception, and of each group the first one in it."""
    yield error
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
        yield error


# --- where ----------------------------------------------------------------------------------------


def _line_of(chain: list[BaseException], root: Path) -> _Line | None:
    inner = chain[-1]
    if isinstance(inner, SyntaxError) and inner.filename and _is_projects(inner.filename):
        text = (inner.text or linecache.getline(inner.filename, inner.lineno or 0)).strip()
        return _Line(file=inner.filename, number=inner.lineno or 0, text=text)
    for error in reversed(chain):
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if _is_projects(frame.filename)
        ]
        # A project may import another one, installed in place; its own lines go before.
        own = [frame for frame in frames if Path(frame.filename).is_relative_to(root)] or frames
        if own:
            last = own[-1]
            return _Line(
                file=last.filename, number=last.lineno or 0, text=(last.line or "").strip()
            )
    return None


def _is_projects(filename: str) -> bool:
    if filename.startswith("<") or filename.startswith(_LIBRARY):
        return False
    parts = Path(filename).parts
    return not any(part in parts for part in _INSTALLED) and not _is_ours(filename)


def _is_ours(filename: str) -> bool:
    here = Path(__file__).parents[2]
    path = Path(filename)
    return any(path.is_relative_to(here / name) for name in ("greenroom", "actors"))


def _shown(file: str, root: Path) -> str:
    path = Path(file)
    return str(path.relative_to(root)) if path.is_relative_to(root) else file


# --- what to do -----------------------------------------------------------------------------------


def _advice(error: BaseException, line: _Line | None, root: Path) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return _of_missing_module(error.name, root)
    if isinstance(error, ImportError):
        return _of_hidden_module(error, root)
    if isinstance(error, SyntaxError):
        return (
            f"Correct that line (this is Python {sys.version_info.major}.{sys.version_info.minor})."
        )
    missing = _missing_variables(error, line)
    if missing:
        names = ", ".join(map(repr, missing))
        one = "the variable" if len(missing) == 1 else "the variables"
        return f"Set {one} {names}: in 'env' of {FILE_NAME}, in its file, or in the environment."
    if isinstance(error, SystemExit):
        return (
            "A graph's module must not end its process: put that below `if __name__ == '__main__'`."
        )
    if isinstance(error, RuntimeError) and "running event loop" in str(error):
        return (
            "Modules are imported while a loop runs: name a function of the module instead, which"
            " may be async, and await there."
        )
    return ""


def _of_missing_module(name: str, root: Path) -> str:
    top = name.partition(".")[0]
    place = _place_in_project(top, root)
    if place is not None:
        folder = f"./{place.relative_to(root).as_posix()}"
        return f"It is in {folder}: add {folder!r} to 'dependencies' of {FILE_NAME}."
    if top in OURS:
        return f"{top!r} is a package of Greenroom: rename the project's own."
    if "." in name and _is_installed(top) and name not in DISTRIBUTIONS:
        return f"The installed {_version_of(top)} has no such module: another version may have it."
    known = next((DISTRIBUTIONS[part] for part in _prefixes(name) if part in DISTRIBUTIONS), None)
    package = known or top.replace("_", "-")
    return (
        f"Install {package!r}, or add the directory that holds it to 'dependencies' of {FILE_NAME}."
    )


def _prefixes(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition(".")[0]


def _place_in_project(top: str, root: Path) -> Path | None:
    """Returns the directory of the project that holds a module which is not importable."""
    if str(root) in sys.path and ((root / top).is_dir() or (root / f"{top}.py").is_file()):
        return None  # it is importable; something in it is missing
    for number, (folder, folders, files) in enumerate(os.walk(root)):
        if number > SEARCHED:
            return None
        if f"{top}.py" in files or (
            top in folders and (Path(folder) / top / "__init__.py").is_file()
        ):
            return Path(folder)
        folders[:] = sorted(
            each for each in folders if not each.startswith(".") and each not in _SKIPPED
        )
    return None


_SKIPPED = frozenset({"node_modules", "__pycache__", "venv", "env", *_INSTALLED})


def _is_installed(top: str) -> bool:
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False


def _version_of(top: str) -> str:
    for distribution in importlib.metadata.packages_distributions().get(top, ()):
        if distribution.replace("-", "_").lower() == top.lower():
            return f"{distribution} {importlib.metadata.version(distribution)}"
    return top


def _of_hidden_module(error: ImportError, root: Path) -> str:
    """Explains that a project's ``calendar.py`` is hidden by the module of the standard library."""
    name = error.name or ""
    if name not in sys.stdlib_module_names:
        return ""
    for path in dict.fromkeys([str(root), *sys.path]):
        file = Path(path) / f"{name}.py"
        if file.is_file() and _is_projects(str(file)):
            return (
                f"{_shown(str(file), root)} has the name of a module of Python, which is what the"
                " import finds: rename the file."
            )
    return ""


_OS = (os.__file__, "<frozen os>")
_READS = re.compile(r"""(?:environ\.get|getenv)\(\s*f?["']([A-Za-z_]\w*)["']""")
_NAMES = re.compile(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]*[A-Z0-9]\b")


def _missing_variables(error: BaseException, line: _Line | None) -> list[str]:
    """Returns the variables of the environment that the code wanted and that are not set."""
    frames = traceback.extract_tb(error.__traceback__)
    found: list[str] = []
    if isinstance(error, KeyError) and frames and frames[-1].filename in _OS:
        found = [str(error.args[0])]  # `os.environ["NAME"]`
    elif any("pydantic_settings" in frame.filename for frame in frames):
        found = _required_settings(error)
    if not found and line is not None:
        found = _READS.findall(line.text)
    if not found and re.search(r"environment|env\b|api[_ ]key", message_of(error), re.IGNORECASE):
        found = _NAMES.findall(message_of(error))
    return [name for name in dict.fromkeys(found) if name not in os.environ]


def _required_settings(error: BaseException) -> list[str]:
    errors: Any = getattr(error, "errors", None)
    if not callable(errors):
        return []
    wrong = cast("list[dict[str, Any]]", errors())
    return [
        str(each["loc"][0]).upper() for each in wrong if each["type"] == "missing" and each["loc"]
    ]
