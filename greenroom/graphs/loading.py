"""From a line of `langgraph.json` to a graph that can run.

A target names a file or a module and an attribute in it. The attribute is a compiled graph, a
builder, or a factory, which is called for every execution and may be async or a context manager.

A file within a package is imported by its package name, with the package's root on ``sys.path``:
loading it by path would break its relative imports. A lone file gets its own name, so that classes
in it can be found again when a checkpoint that holds them is read in another process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import importlib.util
import inspect
import logging
import re
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast, get_args

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore
from langgraph_sdk.runtime import AccessContext
from pydantic import BaseModel

from greenroom.core import identity
from greenroom.core.errors import ConfigurationError
from greenroom.core.raised import message_of, name_of
from greenroom.graphs.configuration import GraphSpec
from greenroom.langgraph_internals import ExecutionRuntime, ReadRuntime

log = logging.getLogger(__name__)

Graph = Pregel[Any, Any, Any, Any]
Saver = BaseCheckpointSaver[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedGraph:
    """A graph whose code has been imported.

    Attributes:
        spec: the configuration's entry.
        graph: the compiled graph, or None when a factory makes one per execution.
        factory: calls the user's factory, or None.
        warnings: sentences for whoever starts the server.
    """

    spec: GraphSpec
    graph: Graph | None = None
    factory: Factory | None = None
    warnings: tuple[str, ...] = ()

    @property
    def graph_id(self) -> str:
        return self.spec.graph_id

    @asynccontextmanager
    async def open(
        self,
        config: RunnableConfig,
        *,
        checkpointer: Saver | None,
        store: BaseStore | None,
        access: AccessContext = "threads.read",
        context: Any = None,
    ) -> AsyncIterator[Graph]:
        """The graph for one execution or one question, with our checkpointer and store in it.

        Args:
            access: why, as factories that take a ``ServerRuntime`` get to see it.
            context: the run's context, for them too.

        Raises:
            ConfigurationError: the factory gave something that is no graph.
        """
        if self.factory is None:
            assert self.graph is not None
            yield _equipped(self.graph, self.spec, checkpointer, store)
            return
        async with AsyncExitStack() as stack:
            made = await self.factory.make(stack, config, store, access, context)
            graph = _compiled(made)
            if graph is None:
                raise ConfigurationError(
                    f"Graph {self.graph_id!r}: the factory {self.spec.target} returned "
                    f"{_a(made)}, not a graph. Return a StateGraph or a compiled graph."
                )
            for sentence in _overridden(graph, self.spec):
                log.warning(
                    sentence, extra={"action": "checkpointer_overridden", "graph_id": self.graph_id}
                )
            yield _equipped(graph, self.spec, checkpointer, store)


def load_graph(spec: GraphSpec, root: Path, import_paths: Iterable[Path] = ()) -> LoadedGraph:
    """Imports a graph's code; blocks for as long as that takes.

    Args:
        root: the directory that relative paths start from.
        import_paths: directories to make importable first (`Configuration.import_paths`).

    Raises:
        ConfigurationError: with a sentence that names graph, target and what to do.
    """
    for path in (*import_paths, root):
        make_importable(path)
    module = _module(spec, root)
    try:
        value = getattr(module, spec.attribute)
    except AttributeError:
        raise ConfigurationError(
            f"Graph {spec.graph_id!r}: {spec.source} has no attribute {spec.attribute!r}"
            f"{_suggestion(module)}. Correct 'graphs.{spec.graph_id}'."
        ) from None
    try:
        graph = _compiled(value)
    except Exception as error:  # compiling checks the user's graph in many ways
        raise ConfigurationError(
            f"Graph {spec.graph_id!r} ({spec.target}) does not compile: {error}"
        ) from error
    if graph is not None:
        return LoadedGraph(spec=spec, graph=graph, warnings=tuple(_overridden(graph, spec)))
    if not callable(value) or hasattr(value, "invoke"):
        raise ConfigurationError(
            f"Graph {spec.graph_id!r}: {spec.target} is {_a(value)}, not a graph. Name a compiled "
            "graph, a StateGraph, or a function that returns one."
        )
    return LoadedGraph(spec=spec, factory=_factory(value, spec))


def _compiled(value: Any) -> Graph | None:
    if isinstance(value, StateGraph):
        return value.compile()
    return value if isinstance(value, Pregel) else None


def _equipped(
    graph: Graph, spec: GraphSpec, checkpointer: Saver | None, store: BaseStore | None
) -> Graph:
    update: dict[str, Any] = {"checkpointer": checkpointer, "store": store}
    if graph.name == "LangGraph":
        update["name"] = spec.graph_id
    if graph.config:
        update["config"] = _bound(graph.config)
    return graph.copy(update=update)


def _bound(config: RunnableConfig) -> RunnableConfig:
    """What an author has bound with ``with_config``, without what would say which run this is.

    LangGraph lays it under the config of each execution, key by key: a checkpoint that is bound
    would be where every run begins, and a thread that is bound would be what a question reads.
    """
    bound = identity.without(config)
    if "configurable" in bound:
        bound["configurable"] = identity.without(bound["configurable"])
    return cast(RunnableConfig, bound)


def _overridden(graph: Graph, spec: GraphSpec) -> Iterable[str]:
    if graph.checkpointer is not None:
        yield (
            f"Graph {spec.graph_id!r} is compiled with its own checkpointer; Greenroom replaces it "
            "by its own, so that state survives and is shared. Compile without 'checkpointer'."
        )
    if graph.store is not None:
        yield (
            f"Graph {spec.graph_id!r} is compiled with its own store; Greenroom replaces it by "
            "its own. Compile without 'store'."
        )


# --- factories ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Factory:
    """A user's function that makes a graph, and what it wants to be given.

    Attributes:
        call: the function.
        config: the name of its parameter for the config, or None.
        runtime: the name of its parameter for the ``ServerRuntime``, or None.
        context_schema: what the runtime's context is to be, from ``ServerRuntime[Schema]``.
        positional: parameter names that can only be given by position, in order.
    """

    call: Callable[..., Any]
    config: str | None
    runtime: str | None
    context_schema: Any = None
    positional: tuple[str, ...] = ()

    async def make(
        self,
        stack: AsyncExitStack,
        config: RunnableConfig,
        store: BaseStore | None,
        access: AccessContext,
        context: Any,
    ) -> Any:
        """Calls it, awaits it, enters it; ``stack`` leaves what was entered."""
        given: dict[str, Any] = {}
        if self.config:
            given[self.config] = config
        if self.runtime:
            given[self.runtime] = _server_runtime(store, access, context, self.context_schema)
        positional = [given.pop(name) for name in self.positional]
        made = self.call(*positional, **given)
        if inspect.isawaitable(made):
            made = await made
        if isinstance(made, contextlib.AbstractAsyncContextManager):
            return await stack.enter_async_context(made)
        if isinstance(made, contextlib.AbstractContextManager):
            return stack.enter_context(made)
        return made


def _factory(value: Callable[..., Any], spec: GraphSpec) -> Factory:
    # A bare generator function is a context manager whose author forgot the decorator.
    if inspect.isasyncgenfunction(value):
        value = contextlib.asynccontextmanager(value)
    elif inspect.isgeneratorfunction(value):
        value = contextlib.contextmanager(value)
    try:
        parameters = inspect.signature(value, eval_str=True).parameters.values()
    except Exception:  # noqa: BLE001 - annotations may name what exists only for type checkers
        parameters = inspect.signature(value).parameters.values()
    names: dict[str, str] = {}
    schema: Any = None
    positional: list[str] = []
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        role = _role(parameter)
        required = parameter.default is parameter.empty
        if role is None and required:
            role = "config"
        if role is None or (role in names and not required):
            continue
        if role in names:
            raise ConfigurationError(
                f"Graph {spec.graph_id!r}: the factory {spec.target} wants too many arguments. "
                "A factory takes a config (RunnableConfig), a runtime (ServerRuntime), "
                "both, or nothing."
            )
        names[role] = parameter.name
        if parameter.kind is parameter.POSITIONAL_ONLY:
            positional.append(parameter.name)
        if role == "runtime":
            schema = next(iter(get_args(parameter.annotation)), None)
    return Factory(
        call=value,
        config=names.get("config"),
        runtime=names.get("runtime"),
        context_schema=schema,
        positional=tuple(positional),
    )


def _role(parameter: inspect.Parameter) -> str | None:
    annotation = str(parameter.annotation)
    if parameter.name == "runtime" or re.search(
        r"ServerRuntime|_(Read|Execution)Runtime", annotation
    ):
        return "runtime"
    if parameter.name == "config" or "RunnableConfig" in annotation:
        return "config"
    return None


def _server_runtime(
    store: BaseStore | None, access: AccessContext, context: Any, schema: Any
) -> Any:
    common: dict[str, Any] = {"access_context": access, "user": None, "store": store}
    if access != "threads.create_run":
        return ReadRuntime(**common)
    makes = inspect.isclass(schema) and (
        issubclass(schema, BaseModel) or dataclasses.is_dataclass(schema)
    )
    if makes and isinstance(context, Mapping):
        context = schema(**context)
    return ExecutionRuntime(**common, context=context)


# --- importing ------------------------------------------------------------------------------------


def make_importable(path: Path) -> None:
    """Puts a directory on ``sys.path``, first of all, unless it is there."""
    if str(path) not in sys.path:
        sys.path.insert(0, str(path))


def _module(spec: GraphSpec, root: Path) -> ModuleType:
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
    """The directory to import from and the dotted name, as the ``__init__.py`` files say."""
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
    """Whether importing ``name`` would give another file than this one."""
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


def _suggestion(module: ModuleType) -> str:
    graphs = [
        name
        for name, value in vars(module).items()
        if isinstance(value, Pregel | StateGraph) and not name.startswith("_")
    ]
    return f"; it has the graphs {', '.join(map(repr, graphs))}" if graphs else ""


def _a(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
