"""Draws runs over time: the queue, the nodes, the deaths of actors and the attempts that continued.

Needs only records (`greenroom.notebook.recording`). A row is a run or an actor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from greenroom.notebook.attached import Run
from greenroom.notebook.display import COLORS, short_actor
from greenroom.notebook.picture import Picture
from greenroom.notebook.recording import RunRecord, Span, record_of, spans

NODE_COLORS = (
    "#4c78a8", "#f58518", "#54a24b", "#b279a2", "#72b7b2", "#eeca3b", "#9d755d", "#ff9da6",
)  # fmt: skip
RUNNING_COLOR = "#9fb3c8"
QUEUED_COLOR = "#dddddd"
RECOVERING_COLOR = "#f6c4bd"
PAUSED_COLOR = "#f3e2b3"
CUT_HATCH = "xxx"
ACTOR_COLOR = "#333333"
ENDS = {
    "success": ("o", "ended: success"),
    "interrupted": ("s", "ended: interrupted"),
    "error": ("X", "ended: error"),
    "timeout": ("X", "ended: time-out"),
    "rejected": ("X", "rejected"),
    "rolled back": ("D", "rolled back"),
    "asks": ("P", "waits for a human"),
}
"""The mark of each ending, and its text in the legend."""

ROW_INCHES = 0.36
DENSE_ROW_INCHES = 0.13
ROWS_WITH_TEXT = 30
WIDTH_INCHES = 9.5
BAR_HEIGHT = 0.62
NAME_SHARE = 0.04
"""The part of the width for the name of an actor."""


def timeline(
    runs: Iterable[Run | RunRecord | Mapping[str, Any]],
    *,
    title: str = "",
    rows: Literal["runs", "actors"] = "runs",
) -> Picture:
    """Draws the intervals of runs.

    Args:
        runs: followed runs, or their records, or timelines of the server (``.../timeline``).
        rows: a row per run, or a row per actor with all runs that it executed.
    """
    records = [_record(each) for each in runs]
    if not records:
        raise ValueError("There is no run to draw.")
    drawing = _Drawing(records, rows)
    drawing.draw(title)
    return Picture(drawing.figure, f"a timeline of {len(records)} runs")


def _record(run: Run | RunRecord | Mapping[str, Any]) -> RunRecord:
    if isinstance(run, Run):
        return run.record
    return run if isinstance(run, RunRecord) else record_of(run)


class _Drawing:
    def __init__(self, records: Sequence[RunRecord], rows: Literal["runs", "actors"]) -> None:
        self._records = records
        self._by_actor = rows == "actors"
        self._began_s = min(record.asked_s for record in records)
        self._length_s = max(record.seen_until_s for record in records) - self._began_s
        self._names = _rows(records) if self._by_actor else [each.label for each in records]
        self._many = len(self._names) > ROWS_WITH_TEXT
        inches = DENSE_ROW_INCHES if self._many else ROW_INCHES
        self.figure = Figure(figsize=(WIDTH_INCHES, 1.1 + inches * len(self._names)))
        self._axes: Axes = self.figure.subplots()
        nodes = dict.fromkeys(
            span.name for each in records for span in spans(each) if span.kind == "node"
        )
        self._colors = {
            name: NODE_COLORS[place % len(NODE_COLORS)] for place, name in enumerate(nodes)
        }
        self._marks: dict[str, str] = {}
        self._shown: set[str] = set()
        self._over = True

    def draw(self, title: str) -> None:
        for place, record in enumerate(self._records):
            self._over = record.over
            for span in spans(record):
                self._span(self._row(place, record, span.attempt), span)
            if not self._by_actor:
                self._name_actors(place, record)
                self._wait(place, record)
            self._end(self._row(place, record, record.attempt), record)
        self._frame(title)
        self._legend()

    def _row(self, place: int, record: RunRecord, attempt: int) -> int | None:
        if not self._by_actor:
            return place
        actor = record.actors.get(attempt)
        return None if actor is None else self._names.index(_row_name(actor))

    def _span(self, row: int | None, span: Span) -> None:
        length_s = span.ended_s - span.began_s
        if row is None or (self._by_actor and span.kind != "node"):
            return
        look: dict[str, Any] = {"height": BAR_HEIGHT, "left": span.began_s - self._began_s}
        match span.kind:
            case "queued":
                look |= {"color": QUEUED_COLOR, "hatch": "", "zorder": 1}
            case "starting":
                return  # the attempt's bar shows it
            case "paused":
                look |= {"color": PAUSED_COLOR, "zorder": 1}
            case "running":
                look |= {"color": RUNNING_COLOR, "height": BAR_HEIGHT / 6, "zorder": 1}
            case "recovering":
                look |= {"color": RECOVERING_COLOR, "edgecolor": "#c0392b", "zorder": 1}
                look |= {"hatch": "////", "linewidth": 0}
            case "node":
                look |= {"color": self._colors[span.name], "zorder": 2}
                look |= {"edgecolor": "white", "linewidth": 0.0 if self._many else 0.6}
                if span.cut and self._over:
                    look |= {"hatch": CUT_HATCH}
                    self._shown.add("cut")
        self._axes.barh(row, length_s, **look)
        self._shown.add(span.kind)

    def _name_actors(self, row: int, record: RunRecord) -> None:
        """Writes the name of the actor below the bar of each attempt."""
        if self._many:
            return
        free_from_s = 0.0
        for attempt, begun_s in record.begun.items():
            if attempt not in record.actors:
                continue
            # Two names on one another cannot be read; the line says that there was another one.
            if begun_s >= free_from_s:
                self._axes.annotate(
                    short_actor(record.actors[attempt]),
                    (begun_s - self._began_s, row + BAR_HEIGHT / 2),
                    xytext=(1, -1),
                    textcoords="offset points",
                    fontsize=6.5,
                    family="monospace",
                    color=ACTOR_COLOR,
                    verticalalignment="top",
                )
                free_from_s = begun_s + self._length_s * NAME_SHARE
            if attempt > 1:
                self._axes.plot(
                    [begun_s - self._began_s] * 2,
                    [row - BAR_HEIGHT / 2, row + BAR_HEIGHT / 2],
                    color="#c0392b",
                    linewidth=1.2,
                    zorder=3,
                )

    def _wait(self, row: int, record: RunRecord) -> None:
        """Draws a line from a run that asks a human to the run that brings the answer."""
        answers = [
            each.asked_s
            for each in self._records
            if each.thread_id and each.thread_id == record.thread_id
            if each.asked_s >= record.seen_until_s
        ]
        if record.waits_for and answers:
            self._axes.plot(
                [record.seen_until_s - self._began_s, min(answers) - self._began_s],
                [row, row],
                color=COLORS["interrupted"],
                linestyle=":",
                linewidth=1.8,
                zorder=1,
            )

    def _end(self, row: int | None, record: RunRecord) -> None:
        if row is None or not record.over or (self._many and record.status == "success"):
            return
        kind = "asks" if record.status == "success" and record.waits_for else record.status
        marker, _ = ENDS.get(kind, ("o", kind))
        color = COLORS["interrupted"] if kind == "asks" else COLORS.get(record.status, "#333333")
        self._marks[kind] = color
        self._axes.plot(
            record.seen_until_s - self._began_s,
            row,
            marker=marker,
            color=color,
            markersize=5 if self._many else 7,
            markeredgecolor="white",
            markeredgewidth=0.8,
            linestyle="none",
            zorder=4,
            clip_on=False,
        )

    def _frame(self, title: str) -> None:
        axes = self._axes
        axes.set_xlabel("seconds since the first run was created")
        axes.set_ylim(len(self._names) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.margins(x=0.02)
        if self._many:
            axes.set_yticks([])
            axes.set_ylabel(f"{len(self._names)} {'actors' if self._by_actor else 'runs'}")
        else:
            axes.set_yticks(range(len(self._names)), self._names)
        axes.grid(axis="x", color="#eeeeee", zorder=0)
        axes.set_axisbelow(True)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.tick_params(axis="y", length=0)
        if title:
            axes.set_title(title, loc="left", fontsize=11)

    def _legend(self) -> None:
        entries: list[Any] = []
        if "queued" in self._shown:
            entries.append(Patch(color=QUEUED_COLOR, label="queued"))
        if "running" in self._shown:
            entries.append(Line2D([], [], color=RUNNING_COLOR, linewidth=2, label="between nodes"))
        if "paused" in self._shown:
            entries.append(Patch(color=PAUSED_COLOR, label="paused"))
        entries += [Patch(color=color, label=name) for name, color in self._colors.items()]
        if "cut" in self._shown:
            entries.append(
                Patch(facecolor="#999999", edgecolor="white", hatch=CUT_HATCH, label="cut off")
            )
        if "recovering" in self._shown:
            entries.append(
                Patch(
                    facecolor=RECOVERING_COLOR,
                    edgecolor="#c0392b",
                    hatch="////",
                    linewidth=0,
                    label="recovering",
                )
            )
        entries += [
            Line2D([], [], marker=ENDS[kind][0], color=color, linestyle="none", label=ENDS[kind][1])
            for kind, color in self._marks.items()
            if kind in ENDS
        ]
        self._axes.legend(
            handles=entries,
            loc="upper left",
            bbox_to_anchor=(1.01, 1.0),
            frameon=False,
            fontsize=8.5,
            borderaxespad=0,
        )


def _rows(records: Sequence[RunRecord]) -> list[str]:
    return list(
        dict.fromkeys(_row_name(actor) for each in records for actor in each.actors.values())
    )


def _row_name(actor: str) -> str:
    return f"actor {short_actor(actor)}"
