"""Loads the graph that a line of `langgraph.json` names.

A target names a file or a module and an attribute in it. The attribute is a compiled graph, a
builder, or a factory, which is called for every execution and may be async or a context manager.
"""
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore
from langgraph_sdk.runtime import AccessContext

from greenroom.core import identity
from greenroom.core.errors import ConfigurationError
from greenroom.graphs.configuration import Configuration, GraphSpec
from greenroom.graphs.factories import Factory, factory_of
from greenroom.graphs.importing import load_target
from greenroom.langgraph_internals import keep_allowlist

log = logging.getLogger(__name__)

Graph = Pregel[Any, Any, Any, Any]
Saver = BaseCheckpointSaver[Any]

LISTENS = "greenroom_listens"
"""The attribute of a graph that takes what is said to its runs itself; also a channel of its state
that says so (`listens`)."""
UNNAMED = "LangGraph"
"""The name that LangGraph gives a graph whose author gives none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedGraph:
    """A graph whose code has been imported.

    Attributes:
        spec: the configuration's entry.
        graph: the compiled graph, or None when a factory makes one per execution, and for a graph
            with a known problem.
        factory: calls the user's factory, or None.
        warnings: sentences that the server shows at its start.
    """

    spec: GraphSpec
    graph: Graph | None = None
    factory: Factory | None = None
    warnings: tuple[str, ...] = ()

    @property
    def graph_id(self) -> str:
        return self.spec.graph_id

    @property
    def title(self) -> str:
        """The name that its author gave it (``compile(name=...)``), else its id."""
        if self.graph is None or self.graph.name in ("", UNNAMED):
            return self.graph_id
        return self.graph.name

    @asynccontextmanager
    async def open(
        self,
        config: RunnableConfig,
        *,
        checkpointer: Saver | None,
        store: BaseStore | None,
        access: AccessContext = "threads.read",
        context: Any = None,
    ) -> AsyncGenerator[Graph, None]:
        """Opens the graph for one execution or question, with the server's checkpointer and store.

        Args:
            access: the purpose, which a factory's ``ServerRuntime`` shows.
            context: the run's context, which a factory's ``ServerRuntime`` shows.

        Raises:
            ConfigurationError: the graph could not be loaded, or the factory returned an object
                that is not a graph.
        """
        if self.spec.problem is not None:
            raise ConfigurationError(self.spec.problem)
        if self.factory is None:
            assert self.graph is not None
            yield _equipped(self.graph, self.spec, checkpointer, store)
            return
        # Factories read from it without asking whether it is there.
        config = {**config, "configurable": config.get("configurable") or {}}
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


def load_graph(configuration: Configuration, graph_id: str) -> LoadedGraph:
    """Imports a graph's code; blocks meanwhile.

    Raises:
        ConfigurationError: the import failed, or the target is not a graph; the message names the
            graph, the target and the remedy.
    """
    spec = configuration.graph(graph_id)
    if spec.problem is not None:
        return LoadedGraph(spec=spec)
    value = load_target(spec, configuration, suggestion=_suggestion)
    try:
        graph = _compiled(value)
    except Exception as error:  # compiling validates the user's graph and may raise any error
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
    return LoadedGraph(spec=spec, factory=factory_of(value, spec))


def listens(graph: Graph) -> bool:
    """Whether a graph takes what is said to its runs itself (`greenroom.listening`)."""
    return bool(getattr(graph, LISTENS, False)) or LISTENS in cast(Any, graph).channels


def _compiled(value: Any) -> Graph | None:
    if isinstance(value, StateGraph):
        return cast(Graph, cast(Any, value).compile())
    return cast(Graph, value) if isinstance(value, Pregel) else None


def _equipped(
    graph: Graph, spec: GraphSpec, checkpointer: Saver | None, store: BaseStore | None
) -> Graph:
    update: dict[str, Any] = {"checkpointer": checkpointer, "store": store}
    if graph.name == UNNAMED:
        update["name"] = spec.graph_id
    if graph.config:
        update["config"] = _bound(graph.config)
    return copy_of(graph, update)


def copy_of(graph: Graph, update: dict[str, Any]) -> Graph:
    """Returns a copy of a graph with other attributes; it keeps what `Pregel.copy` forgets."""
    copy = graph.copy(update=update)
    keep_allowlist(copy, graph)
    if getattr(graph, LISTENS, False):
        setattr(copy, LISTENS, True)
    return copy


def _bound(config: RunnableConfig) -> RunnableConfig:
    """Returns the config that an author bound with ``with_config``, without a run's identity.

    LangGraph merges the bound config into the config of each execution: every run would begin at a
    bound checkpoint, and questions would read a bound thread.
    """
    bound = identity.without(config)
    if "configurable" in bound:
        bound["configurable"] = identity.without(bound["configurable"])
    return cast(RunnableConfig, bound)


def _overridden(graph: Graph, spec: GraphSpec) -> Iterable[str]:
    if cast(Any, graph).checkpointer is not None:
        yield (
            f"Graph {spec.graph_id!r} is compiled with its own checkpointer; Greenroom replaces it "
            "by its own, so that state survives and is shared. Compile without 'checkpointer'."
        )
    if graph.store is not None:
        yield (
            f"Graph {spec.graph_id!r} is compiled with its own store; Greenroom replaces it by "
            "its own. Compile without 'store'."
        )


def _suggestion(module: ModuleType) -> str:
    graphs = [
        name
        for name, value in vars(module).items()
        if isinstance(value, Pregel | StateGraph) and not name.startswith("_")
    ]
    return f"; it has the graphs {', '.join(map(repr, graphs))}" if graphs else ""


def _a(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
