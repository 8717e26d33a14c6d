"""The order of ``sys.path`` in a process that imports a project's code.

    the standard library | the project | installed packages | the working directory, graphs' folders

A project may have a file ``email.py`` or ``types.py`` that it never imports. Ahead of the standard
library, that file would hide the module ``email`` from every library. Python and Ray put the
working directory first, so `library_first` moves it.

This module imports hardly anything, because an import before that call might find a project's file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

OURS = frozenset({"greenroom", "actors", "serve_app"})
"""The names of the server's own packages and modules, on every machine that may execute a graph."""

_LIBRARY = os.path.dirname(os.__file__)


def library_first() -> None:
    """Moves the working directory to the end of ``sys.path``."""
    with suppress(FileNotFoundError):  # it may have been deleted
        here = os.getcwd()
        sys.path[:] = [*(path for path in sys.path if path not in ("", here)), here]


def make_importable(project: Iterable[Path], graphs: Iterable[Path] = ()) -> None:
    """Puts directories on ``sys.path``, always in the same order.

    Args:
        project: directories behind the standard library, in this order.
        graphs: directories behind everything else. Those that are there already stay.
    """
    library_first()
    first = list(dict.fromkeys(str(path) for path in project))
    rest = [path for path in sys.path if path not in first]
    last = [str(path) for path in graphs if str(path) not in (*first, *rest)]
    at = _end_of_library(rest)
    sys.path[:] = [*rest[:at], *first, *rest[at:], *dict.fromkeys(last)]


def _end_of_library(paths: list[str]) -> int:
    ours = [
        number
        for number, path in enumerate(paths)
        if path.startswith(_LIBRARY) and not path.endswith(("site-packages", "dist-packages"))
    ]
    return ours[-1] + 1 if ours else 0
