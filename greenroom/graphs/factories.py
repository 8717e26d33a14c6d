"""Graph factories: user functions that make a graph for each execution."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, cast, get_args

from langchain_core.runnables import RunnableConfig
from langgraph.store.base import BaseStore
from langgraph_sdk.runtime import AccessContext

from greenroom.core.errors import ConfigurationError
from greenroom.graphs.configuration import GraphSpec
from greenroom.graphs.contexts import made
from greenroom.langgraph_internals import ExecutionRuntime, ReadRuntime


@dataclass(frozen=True, kw_only=True, slots=True)
class Factory:
    """A user's function that makes a graph, and its parameters.

    Attributes:
        call: the function.
        config: the name of its parameter for the config, or None.
        runtime: the name of its parameter for the ``ServerRuntime``, or None.
        context_schema: the type of the runtime's context, from ``ServerRuntime[Schema]``.
        positional: the names of positional-only parameters, in order.
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
        """Calls the function and returns its graph.

        A returned awaitable is awaited, and a context manager is entered; ``stack`` exits it.
        """
        given: dict[str, Any] = {}
        if self.config:
            given[self.config] = config
        if self.runtime:
            user = (config.get("configurable") or {}).get("langgraph_auth_user")
            given[self.runtime] = _server_runtime(store, access, context, self.context_schema, user)
        positional = [given.pop(name) for name in self.positional]
        graph = self.call(*positional, **given)
        if inspect.isawaitable(graph):
            graph = await graph
        if isinstance(graph, contextlib.AbstractAsyncContextManager):
            return await stack.enter_async_context(
                cast(contextlib.AbstractAsyncContextManager[Any], graph)
            )
        if isinstance(graph, contextlib.AbstractContextManager):
            return stack.enter_context(cast(contextlib.AbstractContextManager[Any], graph))
        return graph


def factory_of(value: Callable[..., Any], spec: GraphSpec) -> Factory:
    # A bare generator function is used as a context manager; its decorator is missing.
    if inspect.isasyncgenfunction(value):
        value = contextlib.asynccontextmanager(value)
    elif inspect.isgeneratorfunction(value):
        value = contextlib.contextmanager(value)
    try:
        parameters = inspect.signature(value, eval_str=True).parameters.values()
    except Exception:  # noqa: BLE001 - annotations may name types that only type checkers see
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
    store: BaseStore | None, access: AccessContext, context: Any, schema: Any, user: Any
) -> Any:
    common: dict[str, Any] = {"access_context": access, "user": user, "store": store}
    if access != "threads.create_run":
        return cast(Any, ReadRuntime(**common))
    return ExecutionRuntime(**common, context=made(schema, context))
