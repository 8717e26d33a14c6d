"""Parses one entry of ``graphs`` of `langgraph.json`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from greenroom.core.errors import ConfigurationError
from greenroom.core.targets import Target
from greenroom.graphs.json_values import an_object
from greenroom.graphs.placements import PlacementSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphSpec(Target):
    """One entry of ``graphs``.

    Attributes:
        graph_id: the graph's name, e.g. ``agent``.
        description: the description in the configuration.
        placement: the placement of the graph's runs.
        defaults: the config of its assistant (`LANGGRAPH_CONFIG`), also with a ``context``.
        problem: why it cannot be loaded, if that is known; it is not tried then.
    """

    graph_id: str
    description: str | None = None
    placement: PlacementSpec = field(default_factory=PlacementSpec)
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    problem: str | None = None

    @property
    def subject(self) -> str:
        return f"Graph {self.graph_id!r}"

    @property
    def key(self) -> str:
        return f"graphs.{self.graph_id}"


_JAVASCRIPT = (".js", ".jsx", ".ts", ".tsx", ".mjs", ".mts", ".cjs", ".cts")


def parse_graph(
    name: str, value: Any, placement: PlacementSpec, defaults: Mapping[str, Any]
) -> GraphSpec:
    """Parses an entry.

    Args:
        name: the graph's name.
        value: the entry.
        placement: the placement of the graph's runs.
        defaults: the config of its assistant.

    Raises:
        ConfigurationError: the entry is invalid; the message says what it must be.
    """
    description = None
    if isinstance(value, Mapping):
        entry = an_object(value, f"graphs.{name}")
        value, description = entry.get("path"), entry.get("description")
    if not isinstance(value, str) or not re.fullmatch(r"[^:]*[^:\s]:[A-Za-z_]\w*|.:.+:\w+", value):
        raise ConfigurationError(
            f"'graphs.{name}' is {value!r}; it must be './file.py:attribute' or "
            "'package.module:attribute', or an object with such a 'path'."
        )
    if description is not None and not isinstance(description, str):
        raise ConfigurationError(f"'graphs.{name}.description' must be a string.")
    problem = None
    if value.rpartition(":")[0].endswith(_JAVASCRIPT):
        problem = (
            f"Graph {name!r} is a JavaScript graph ({value}); Greenroom runs Python graphs only."
        )
    return GraphSpec(
        graph_id=name,
        target=value,
        description=description,
        placement=placement,
        defaults=defaults,
        problem=problem,
    )
