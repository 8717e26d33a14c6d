"""Converts a run's ``kwargs``, as the API stores them, into the arguments of LangGraph."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, Send

from greenroom.core import identity
from greenroom.core.errors import InvalidRequest
from greenroom.core.runs import RunOrder
from greenroom.graphs.users import user_values
from greenroom.langgraph_internals import CONFIG_KEY_STRICT_RESUME
from greenroom.wire.encoding import loads

LANGGRAPH_VERSION = version("langgraph")
LOG_MODE = "lifecycle"
"""The stream mode, as LangGraph's server has it, that only runs of event streaming have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Instructions:
    """The arguments of LangGraph for a run.

    Attributes:
        input: the graph's input, a `Command`, or None to go on from the checkpoint.
        config: the run's config; its ``metadata`` names the run, and so does each checkpoint's.
        context: the runtime context.
        modes: the stream modes that the client asked for.
        subgraphs: stream the events of subgraphs as well.
        streams_log: stream the events of the thread's log, not those of the modes.
        options: further arguments of `Pregel.astream`.
    """

    input: Any
    config: RunnableConfig
    context: Any
    modes: frozenset[str]
    subgraphs: bool
    streams_log: bool
    options: Mapping[str, Any]

    def saved_at_each_step(self) -> Instructions:
        """Returns the instructions for a graph that listens: what its nodes take is stored with
        their writes, which LangGraph does not store with durability ``exit``."""
        if self.options["durability"] != "exit":
            return self
        return replace(self, options={**self.options, "durability": "async"})


def instructions(order: RunOrder) -> Instructions:
    """Reads an order's ``kwargs`` (platform API, section 5).

    Raises:
        InvalidRequest: the command is malformed.
    """
    kwargs: dict[str, Any] = loads(order.kwargs)
    command = kwargs.get("command")
    modes = kwargs.get("stream_mode") or ["values"]
    options = {
        "interrupt_before": kwargs.get("interrupt_before") or None,
        "interrupt_after": kwargs.get("interrupt_after") or None,
        "durability": kwargs.get("durability") or "async",
    }
    return Instructions(
        input=kwargs.get("input") if command is None else parse_command(command),
        config=_config(kwargs, order),
        context=kwargs.get("context"),
        modes=frozenset([modes] if isinstance(modes, str) else modes),
        subgraphs=bool(kwargs.get("subgraphs")),
        streams_log=order.logged and LOG_MODE in modes,
        options=options,
    )


def _config(kwargs: Mapping[str, Any], order: RunOrder) -> RunnableConfig:
    # The HTTP edge cleans the config, but an older server may have queued the run.
    given: dict[str, Any] = kwargs.get("config") or {}
    config = identity.fields_of(given)
    configurable = {
        **config.get("configurable", {}),
        **_set_by_the_server(given.get("configurable") or {}),
        "run_id": order.run_id,
        "thread_id": order.thread_id,
        "graph_id": order.graph_id,
        "assistant_id": order.assistant_id,
        **user_values(order.user),
    }
    if order.user is not None and not configurable.get("user_id"):
        configurable["user_id"] = configurable["langgraph_auth_user_id"]
    checkpoint: dict[str, Any] = kwargs.get("checkpoint") or {}
    for key in ("checkpoint_id", "checkpoint_ns", "checkpoint_map"):
        value = checkpoint.get(key) or (kwargs.get(key) if key == "checkpoint_id" else None)
        if value is not None:
            configurable[key] = value
    if kwargs.get("strict_resume"):
        # Makes LangGraph reject an answer to an interrupt that is not pending, before it writes.
        configurable[CONFIG_KEY_STRICT_RESUME] = True
    return cast(
        RunnableConfig,
        {
            **config,
            "run_id": uuid.UUID(order.run_id),
            "configurable": configurable,
            "metadata": {
                **identity.without(config.get("metadata") or {}),
                "graph_id": order.graph_id,
                "assistant_id": order.assistant_id,
                "run_attempt": order.attempt,
                "langgraph_version": LANGGRAPH_VERSION,
                "run_id": order.run_id,
                "thread_id": order.thread_id,
            },
        },
    )


_OF_THE_EDGE = frozenset(
    {
        "langgraph_auth_user",
        "langgraph_auth_user_id",
        "langgraph_auth_permissions",
        "langgraph_request_id",
        "__request_start_time_ms__",
        "__after_seconds__",
    }
)
"""Reserved keys that the HTTP edge sets; it drops a client's values of them."""


def _set_by_the_server(configurable: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in configurable.items() if key in _OF_THE_EDGE}


def parse_command(command: Any) -> Command[Any]:
    """Parses a `Command` from its JSON: ``{"resume", "update", "goto"}``, all optional.

    Raises:
        InvalidRequest: the JSON has another shape.
    """
    if not isinstance(command, Mapping):
        raise InvalidRequest("'command' must be an object with 'resume', 'update' or 'goto'.")
    given = cast(Mapping[str, Any], command)
    update = given.get("update")
    if isinstance(update, list):
        # Pairs of channel and value; a channel may occur more than once.
        pairs = cast(list[Any], update)
        update = [tuple(cast(list[Any], p)) if isinstance(p, list) else p for p in pairs]
    goto: Any = given.get("goto")
    targets: list[Any] = [] if goto is None else [goto]
    if isinstance(goto, list):
        targets = cast(list[Any], goto)
    return Command(
        update=update, resume=given.get("resume"), goto=[_target(item) for item in targets]
    )


def _target(item: Any) -> Send | str:
    if isinstance(item, str):
        return item
    if isinstance(item, Mapping) and "node" in item:
        target = cast(Mapping[str, Any], item)
        return Send(target["node"], target.get("input"))
    raise InvalidRequest(
        '\'command.goto\' must be a node\'s name, or {"node", "input"}, or a list.'
    )
