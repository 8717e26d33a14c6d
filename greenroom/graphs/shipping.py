"""Graphs by value: packs an object of a notebook into bytes, and unpacks it in another process.

cloudpickle includes functions and classes that no module on the other side has. This module adds
three steps:

- LangGraph compares with sentinels (``PASSTHROUGH``, ``SKIP_WRITE``, each a bare ``object()`` of a
  module). By value they lose their identity and every run fails, so they travel by name.
- Modules beside the notebook are not installed on the other side, so they travel by value too.
- A checkpoint names the classes of its values, and a reader looks for them in their modules. So
  shipped classes are put into the modules that they name.
"""
# cloudpickle has no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import contextlib
import importlib
import io
import pickle
import sys
from collections.abc import Generator
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import cloudpickle
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from greenroom.core.errors import ConfigurationError
from greenroom.graphs.loading import Graph, copy_of
from greenroom.graphs.module_path import OURS

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""Pickled functions are bytecode, which only the same version of Python executes."""


def pack(graph_id: str, graph: Any, *, beside: Path) -> bytes:
    """Packs a graph into bytes, with all code that is not installed on the other side.

    Args:
        graph_id: the graph's name, for error messages.
        graph: a compiled graph, or a builder. A compiled graph's checkpointer and store are left
            out: the server uses its own.
        beside: modules from files below this directory travel by value.

    Raises:
        ConfigurationError: ``graph`` is not a graph, or holds an object that cannot be pickled.
    """
    if isinstance(graph, Pregel):
        graph = copy_of(cast(Graph, graph), {"checkpointer": None, "store": None})
    elif not isinstance(graph, StateGraph):
        raise ConfigurationError(
            f"Graph {graph_id!r} is a {type(graph).__name__}, not a graph: give a compiled graph"
            " or a StateGraph."
        )
    with _by_value(beside):
        try:
            return _dump(graph)
        except Exception as error:  # a user's object may raise any error when it is pickled
            raise ConfigurationError(
                f"Graph {graph_id!r} cannot be shipped: {_culprit(graph)}{_first_line(error)}."
                " Connections, locks and open files stay in their process: make them inside the"
                " node that uses them."
            ) from error


def unpack(graph_id: str, payload: bytes) -> Graph:
    """Unpacks and compiles a graph that `pack` made.

    Raises:
        ConfigurationError: a dependency of the graph is missing here.
    """
    try:
        graph, classes = pickle.loads(payload)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"Graph {graph_id!r} needs {error.name!r}, which is not installed where it is to run."
        ) from error
    except Exception as error:  # a user's object may raise any error when it is unpickled
        raise ConfigurationError(
            f"Graph {graph_id!r} cannot be loaded where it is to run:"
            f" {type(error).__name__}: {_first_line(error)}."
        ) from error
    for shipped in classes:
        _settle(shipped)
    return graph.compile() if isinstance(graph, StateGraph) else graph


class _Pickler(cloudpickle.Pickler):
    def __init__(self, file: io.BytesIO, classes: list[type]) -> None:
        super().__init__(file)
        self._sentinels = _sentinels()
        self._classes = classes

    def reducer_override(self, obj: Any) -> Any:
        if id(obj) in self._sentinels:
            return getattr, self._sentinels[id(obj)]
        reduced = super().reducer_override(obj)
        # By name it would be NotImplemented, or a string.
        if isinstance(obj, type) and isinstance(reduced, tuple):
            self._classes.append(obj)
        return reduced


def _dump(graph: Any) -> bytes:
    file = io.BytesIO()
    classes: list[type] = []
    # The list is filled while the graph before it is pickled.
    _Pickler(file, classes).dump((graph, classes))
    return file.getvalue()


def _sentinels() -> dict[int, tuple[ModuleType, str]]:
    """Returns each bare ``object()`` at the top of LangGraph's and LangChain's modules, by id."""
    return {
        id(value): (module, name)
        for module_name, module in sorted(sys.modules.items())
        if module_name.partition(".")[0] in ("langgraph", "langchain_core")
        for name, value in vars(module).items()
        if type(value) is object
    }


@contextlib.contextmanager
def _by_value(beside: Path) -> Generator[None, None, None]:
    """Makes modules from files below a directory be pickled by value, within the block."""
    known = cloudpickle.list_registry_pickle_by_value()
    modules = [
        module
        for name, module in list(sys.modules.items())
        if name not in known and _is_beside(name, module, beside.resolve())
    ]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _is_beside(name: str, module: ModuleType, directory: Path) -> bool:
    file = getattr(module, "__file__", None)
    if file is None or name == "__main__" or name.partition(".")[0] in OURS:
        return False
    try:
        parts = Path(file).resolve().relative_to(directory).parts
    except ValueError:
        return False
    return not any(part == "site-packages" or part.startswith(".") for part in parts)


def _settle(shipped: type) -> None:
    if "." in shipped.__qualname__:
        return  # the class could not be found by its name before, either
    try:
        module = importlib.import_module(shipped.__module__)
    except Exception:  # noqa: BLE001 - the module, or one that it imports, is not here
        module = sys.modules.setdefault(shipped.__module__, ModuleType(shipped.__module__))
    setattr(module, shipped.__name__, shipped)


def _culprit(graph: Any) -> str:
    """Returns the node that cannot be pickled, as the beginning of a sentence; empty if none."""
    nodes = graph.builder.nodes if hasattr(graph, "builder") else getattr(graph, "nodes", {})
    for name, node in nodes.items():
        try:
            _dump(node)
        except Exception:  # noqa: BLE001 - that one
            return f"node {name!r} holds what cannot be pickled: "
    return ""


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0].rstrip(".")
