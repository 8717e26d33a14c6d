"""Whether the state of a graph can take what is about to be said to its run.

What is not found here is found when it is taken: a reducer that refuses a value because of what the
state has by then, a node whose edges fail. Then the input is refused, and the run goes on.
"""
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, cast

from langgraph.channels import AnyValue, LastValue
from langgraph.channels.base import BaseChannel
from langgraph.types import Send
from pydantic import TypeAdapter, ValidationError

from greenroom.core.errors import InvalidRequest
from greenroom.core.raised import message_of
from greenroom.graphs.instructions import parse_command
from greenroom.graphs.loading import LISTENS, Graph, listens
from greenroom.graphs.schemas import unqualified
from greenroom.langgraph_internals import MISSING

ROOT = "__root__"
"""The channel of a state that is one value."""


def check_input(
    graph: Graph, graph_id: str, update: Any, command: Mapping[str, Any] | None, as_node: str | None
) -> None:
    """Checks an input against the channels and nodes of a graph.

    Raises:
        InvalidRequest: the state has no such key, a key cannot have the value, or there is no such
            node; the message names what there is.
    """
    if as_node is not None:
        _refuse_unknown_node(graph, graph_id, as_node)
    if command is not None:
        for target in cast("list[Send | str]", parse_command(command).goto):
            name = target.node if isinstance(target, Send) else str(target)
            _refuse_unknown_node(graph, graph_id, name)
        update = command.get("update")
        if update is None:
            _refuse_if_listening(graph, graph_id, as_node, command)
            return
        if isinstance(update, list):
            update = _as_object(cast(list[list[Any]], update))
    _refuse_if_listening(graph, graph_id, as_node, command)
    names = graph.stream_channels_asis
    if not isinstance(names, str):
        names = [name for name in names if name != LISTENS]
    else:
        if names != ROOT:
            raise InvalidRequest(
                f"Graph {graph_id!r} has no state that an update could change while it runs. Create"
                " another run."
            )
        _refuse_value(graph, "the state", ROOT, update)
        return
    if not isinstance(update, dict) or not update:
        raise InvalidRequest(
            f"The input must be an object with keys of the state of graph {graph_id!r}:"
            f" {', '.join(sorted(names))}."
        )
    for key, value in cast(dict[str, Any], update).items():
        if key not in names:
            raise InvalidRequest(
                f"The state of graph {graph_id!r} has no key {key[:80]!r}. It has"
                f" {', '.join(sorted(names))}."
            )
        _refuse_value(graph, f"The key {key!r} of the state", key, value)


def _refuse_unknown_node(graph: Graph, graph_id: str, name: str) -> None:
    if name not in graph.nodes:
        known = ", ".join(sorted(each for each in graph.nodes if not each.startswith("__")))
        raise InvalidRequest(f"Graph {graph_id!r} has no node {name[:80]!r}. It has {known}.")


def _refuse_if_listening(
    graph: Graph, graph_id: str, as_node: str | None, command: Mapping[str, Any] | None
) -> None:
    if not listens(graph):
        return
    if as_node is not None or (command or {}).get("goto") is not None:
        raise InvalidRequest(
            f"Graph {graph_id!r} listens: a node of it takes what is said, so it cannot be in the"
            " name of a node or go to one. Leave out 'as_node' and 'command.goto'."
        )


def _as_object(pairs: list[list[Any]]) -> dict[str, Any]:
    values = {str(pair[0]): pair[1] for pair in pairs}
    if len(values) < len(pairs):
        raise InvalidRequest(
            "'command.update' has a key twice. Say the second value as another input."
        )
    return values


def _refuse_value(graph: Graph, what: str, name: str, value: Any) -> None:
    channel: Any = cast(Any, graph).channels[name]
    if not isinstance(channel, BaseChannel):
        raise InvalidRequest(f"{what} is managed by LangGraph and takes no value.")
    try:
        cast(Any, channel).from_checkpoint(MISSING).update([value])
    except Exception as error:  # a reducer is user code
        raise InvalidRequest(f"{what} cannot take this value: {message_of(error)[:500]}") from error
    if isinstance(channel, LastValue | AnyValue):
        _refuse_type(what, unqualified(cast(Any, channel).ValueType), value)


def _refuse_type(what: str, kind: Any, value: Any) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            checked = TypeAdapter(kind)
    except Exception:  # noqa: BLE001 - pydantic walks arbitrary user types here, and knows not all
        return
    try:
        checked.validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidRequest(f"{what} cannot take this value: {first['msg']}.") from None
