"""Lets a process that imports LangGraph do without what LangGraph imports and hardly anybody uses.

`import_less` has to be called before LangGraph is imported. What is left out is imported as soon as
something of it is used, or not at all where its users expect that it may be missing.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

LATE = "langsmith.types"
"""160 modules, of which langsmith uses one: a fifth of the time that LangGraph's import takes."""
ABSENT = "httpx._main"
"""The command line of httpx, which it imports where rich is installed: 4 MiB and 0.1 s."""

_LOADER = "greenroom loader"
_loading = threading.RLock()


def import_less() -> None:
    """Has this process import the package `LATE` late, and not `ABSENT`.

    Without `ABSENT` only ``httpx.main`` reports that something is missing. Modules of `LATE` can be
    imported by themselves as ever.
    """
    sys.modules.setdefault(ABSENT, None)  # pyright: ignore[reportArgumentType]
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds the late package, and nothing else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != LATE:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _LateLoader(spec.loader)
        return spec


class _LateLoader(Loader):
    """Makes a module whose code is executed when a name is missed in it.

    Args:
        loader: executes the code.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        module.__dict__[_LOADER] = self._loader
        module.__class__ = _Late


class _Late(ModuleType):
    """A module that is executed when a name is missed in it."""

    def __getattr__(self, name: str) -> Any:
        # The package imports nothing beside itself, so nobody who waits here holds up its import.
        with _loading:
            loader = self.__dict__.pop(_LOADER, None)
            if loader is not None:
                try:
                    loader.exec_module(self)
                except BaseException:  # of any kind: whoever asks next hears of it too
                    self.__dict__[_LOADER] = loader
                    raise
            if name in self.__dict__:
                return self.__dict__[name]
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
