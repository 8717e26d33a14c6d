"""The JSON schemas of a graph: its input, output, state and context."""
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Annotated, Any, NotRequired, Required, cast, get_args, get_origin

from langgraph.channels.base import BaseChannel
from langgraph.pregel import Pregel
from langgraph.pregel.protocol import PregelProtocol
from typing_extensions import ReadOnly

from greenroom.graphs.loading import Graph
from greenroom.langgraph_internals import create_model

log = logging.getLogger(__name__)

_QUALIFIERS = (Required, NotRequired, ReadOnly)


def schemas(graph: PregelProtocol[Any, Any, Any, Any]) -> dict[str, Any]:
    """Returns the schemas as the API shows them; None for one that the types do not have."""
    if not isinstance(graph, Pregel):
        # The schemas of a remote graph are on its own server.
        names = ("input", "output", "state", "config", "context")
        return {f"{name}_schema": None for name in names}
    context = _schema(graph, graph.get_context_jsonschema)
    return {
        "input_schema": _schema(graph, graph.get_input_jsonschema),
        "output_schema": _schema(graph, graph.get_output_jsonschema),
        "state_schema": _schema(graph, lambda: _state_schema(graph)),
        "config_schema": context or {},
        "context_schema": context,
    }


def _schema(graph: Graph, make: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - pydantic walks arbitrary user types here
        log.info(
            "A type of a graph has no JSON schema.",
            extra={"action": "no_schema", "graph": graph.name, "reason": str(error)},
        )
        return None


def _state_schema(graph: Graph) -> dict[str, Any]:
    channels: dict[str, Any] = cast(Any, graph).channels
    types: dict[str, Any] = {
        name: unqualified(channel.UpdateType)
        for name in graph.stream_channels_list
        if isinstance(channel := channels[name], BaseChannel)
    }
    title = graph.get_name("State")
    try:
        return _made(title, types)
    except Exception:  # noqa: BLE001 - one type without a schema must not hide the other ones
        return _made(title, {name: _known(name, kind) for name, kind in types.items()})


def _known(name: str, kind: Any) -> Any:
    try:
        _made("State", {name: kind})
    except Exception:  # noqa: BLE001 - as above
        return Any
    return kind


def _made(title: str, types: dict[str, Any]) -> dict[str, Any]:
    fields = {name: (kind, None) for name, kind in types.items()}
    return create_model(title, field_definitions=fields).model_json_schema()


def unqualified(kind: Any) -> Any:
    """Returns a type without ``Required``, ``NotRequired`` and ``ReadOnly``, also inside
    ``Annotated``: they are about a key of a ``TypedDict``, and pydantic refuses them elsewhere."""
    origin = get_origin(kind)
    if origin in _QUALIFIERS:
        return unqualified(get_args(kind)[0])
    if origin is Annotated:
        inner, *rest = get_args(kind)
        return Annotated[(unqualified(inner), *rest)]
    return kind
