"""Draws a graph from the JSON of `GET /assistants/{a}/graph`. Needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from greenroom.notebook.picture import Picture

COLUMN_INCHES = 1.6
ROW_INCHES = 0.85
ENDS = {"__start__": "start", "__end__": "end"}
BOX_COLOR = "#e8eef6"
END_COLOR = "#f2f2f2"
EDGE_COLOR = "#555555"


def draw(graph: Mapping[str, Any]) -> Picture:
    """Draws nodes and edges from left to right; dashed edges are conditional.

    Args:
        graph: ``{"nodes": [{"id"}], "edges": [{"source", "target", "conditional"}]}``.
    """
    names = [str(node["id"]) for node in graph["nodes"]]
    edges = [
        (str(each["source"]), str(each["target"]), bool(each.get("conditional")))
        for each in graph["edges"]
    ]
    places = positions(names, [(source, target) for source, target, _ in edges])
    columns = 1 + max((column for column, _ in places.values()), default=0)
    height = max((abs(row) for _, row in places.values()), default=0)
    figure = Figure(figsize=(COLUMN_INCHES * columns, ROW_INCHES * (2 * height + 1.6)))
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_xlim(-0.6, columns - 0.4)
    axes.set_ylim(-height - 0.9, height + 0.9)
    for source, target, conditional in edges:
        _arrow(axes, places[source], places[target], conditional)
    for name in names:
        _box(axes, places[name], name)
    return Picture(figure, f"a graph with {len(names)} nodes")


def positions(
    names: Sequence[str], edges: Sequence[tuple[str, str]]
) -> dict[str, tuple[int, float]]:
    """Returns column and row of each node.

    A node's column is the length of the longest way from the start without a loop. The nodes of a
    column are spread around the middle row.
    """
    column = dict.fromkeys(names, 0)
    forward = _without_loops(names, edges)
    for _ in names:
        for source, target in forward:
            column[target] = max(column[target], column[source] + 1)
    if "__end__" in column and len(names) > 1:
        column["__end__"] = 1 + max(column[name] for name in names if name != "__end__")
    found: dict[str, tuple[int, float]] = {}
    for place in set(column.values()):
        of_column = [name for name in names if column[name] == place]
        for row, name in enumerate(of_column):
            found[name] = place, (len(of_column) - 1) / 2 - row
    return found


def _without_loops(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Returns the edges without those that lead back to a node on the way from the start."""
    after: dict[str, list[str]] = {name: [] for name in names}
    for source, target in edges:
        after[source].append(target)
    kept: list[tuple[str, str]] = []
    seen: set[str] = set()

    def walk(name: str, way: tuple[str, ...]) -> None:
        seen.add(name)
        for target in after[name]:
            if target in way or target == name:
                continue
            kept.append((name, target))
            if target not in seen:
                walk(target, (*way, name))

    for name in names:
        if name not in seen:
            walk(name, ())
    return kept


def _box(axes: Axes, place: tuple[int, float], name: str) -> None:
    is_end = name in ENDS
    axes.text(
        *place,
        ENDS.get(name, name),
        horizontalalignment="center",
        verticalalignment="center",
        fontsize=9.5,
        color="#777777" if is_end else "#1b2a3a",
        bbox={
            "boxstyle": "round,pad=0.5,rounding_size=0.4",
            "facecolor": END_COLOR if is_end else BOX_COLOR,
            "edgecolor": "#cccccc" if is_end else "#4c78a8",
        },
        zorder=3,
    )


def _arrow(
    axes: Axes, source: tuple[int, float], target: tuple[int, float], conditional: bool
) -> None:
    steps = target[0] - source[0]
    bend = 0.0
    if steps <= 0:
        bend = 0.45  # back
    elif steps > 1 and source[1] == target[1]:
        bend = -0.28  # past what lies between
    axes.annotate(
        "",
        xy=target,
        xytext=source,
        arrowprops={
            "arrowstyle": "-|>",
            "color": EDGE_COLOR,
            "linestyle": "dashed" if conditional else "solid",
            "connectionstyle": f"arc3,rad={bend}",
            "shrinkA": 26,
            "shrinkB": 26,
        },
        zorder=2,
    )
