"""Shows records as text, HTML and tables; the only module that asks whether there is a notebook.

All functions but `Shown` and `Bar` are pure: they turn records and the API's JSON into strings.
"""

from __future__ import annotations

import html
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from greenroom.notebook.recording import RunRecord, messages, running_nodes, spans

COLORS = {
    "pending": "#8a8a8a",
    "running": "#1f6fb4",
    "busy": "#1f6fb4",
    "success": "#2c8a3d",
    "idle": "#2c8a3d",
    "error": "#c0392b",
    "timeout": "#c0392b",
    "interrupted": "#b8860b",
    "rejected": "#c0392b",
    "rolled back": "#7d3c98",
}
"""A color for each status of a run or a thread."""

UPDATE_INTERVAL_S = 0.1
ID_SHOWN = 8
ACTOR_SHOWN = 4


def short(name: str) -> str:
    """Returns the end of an id. The beginning of a UUIDv7 is its time, so only ends differ."""
    return name[-ID_SHOWN:]


def short_actor(name: str) -> str:
    """Shortens the name of an actor: ``run-1a2b3c…`` to ``1a2b``."""
    return name.removeprefix("run-")[:ACTOR_SHOWN]


# --- a run ----------------------------------------------------------------------------------------


def live_html(record: RunRecord) -> str:
    """Shows the progress of a run as HTML: status, nodes, attempt, actor, and its text so far."""
    facts = [_chip(record.status), f"<b>{_escaped(record.label)}</b>"]
    nodes = running_nodes(record)
    if nodes:
        facts.append(f"in {', '.join(f'<code>{_escaped(node)}</code>' for node in nodes)}")
    facts += _facts(record, lambda name: f"<code>{_escaped(name)}</code>")
    said = "".join(
        f'<div style="margin:2px 0 0 0"><span style="color:#8a8a8a">{_escaped(node)}</span> '
        f'<span style="white-space:pre-wrap">{_escaped(text)}</span></div>'
        for node, text in messages(record.events)
    )
    asks = "".join(
        f'<div style="color:{COLORS["interrupted"]}">asks: {_escaped(_compact(question))}</div>'
        for question in record.waits_for
    )
    return (
        f'<div style="border-left:3px solid {COLORS.get(record.status, "#8a8a8a")};'
        f'padding:2px 8px;margin:2px 0"><div>{" · ".join(facts)}</div>{said}{asks}</div>'
    )


def live_text(record: RunRecord) -> str:
    """Shows the progress of a run as text, for terminals and other displays without HTML."""
    facts = [f"{record.label}: {record.status}"]
    nodes = running_nodes(record)
    if nodes:
        facts.append(f"in {', '.join(nodes)}")
    facts += _facts(record, str)
    said = [f"  {node}: {text}" for node, text in messages(record.events)]
    asks = [f"  asks: {_compact(question)}" for question in record.waits_for]
    return "\n".join([", ".join(facts), *said, *asks])


def _facts(record: RunRecord, code: Callable[[str], str]) -> list[str]:
    facts: list[str] = []
    if record.attempt:
        facts.append(f"attempt {record.attempt}")
    if record.actor:
        facts.append(f"actor {code(short_actor(record.actor))}")
    if record.ended_s is not None:
        facts.append(f"{record.ended_s - record.asked_s:.1f} s")
    return facts


# --- tables ---------------------------------------------------------------------------------------


class Table(list[dict[str, Any]]):
    """Rows with the same keys: a list that notebooks show as a table.

    Args:
        rows: the rows; values are shown as text, and the value of ``status`` in its color.
        title: the title above the table.
    """

    def __init__(self, rows: Iterable[dict[str, Any]], title: str = "") -> None:
        super().__init__(rows)
        self.title = title

    @property
    def columns(self) -> list[str]:
        return list(self[0]) if self else []

    def _repr_html_(self) -> str:
        title = f"<b>{_escaped(self.title)}</b>" if self.title else ""
        if not self:
            return f"{title} <i>none</i>"
        head = "".join(
            f'<th style="text-align:left">{_escaped(name)}</th>' for name in self.columns
        )
        body = "".join(
            "<tr>"
            + "".join(
                f'<td style="text-align:left">'
                f"{_chip(str(row[name])) if name == 'status' else _escaped(str(row[name]))}</td>"
                for name in self.columns
            )
            + "</tr>"
            for row in self
        )
        return f"{title}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def __repr__(self) -> str:
        rows = [self.columns, *([str(row[name]) for name in self.columns] for row in self)]
        widths = [max(len(row[place]) for row in rows) for place in range(len(self.columns))]
        lines = [
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join([*([self.title] if self.title else []), *lines])


def runs_table(records: Sequence[RunRecord]) -> Table:
    """Returns one row per run: its result, its waiting time, its working time, and its actors."""
    return Table(_run_row(record) for record in records)


def _run_row(record: RunRecord) -> dict[str, Any]:
    found = spans(record)
    queued = found[0]
    nodes = list(dict.fromkeys(span.name for span in found if span.kind == "node"))
    actors = list(dict.fromkeys(record.actors.values()))
    return {
        "run": record.label,
        "status": record.status,
        "queued": f"{queued.ended_s - queued.began_s:.2f} s",
        "took": f"{record.seen_until_s - queued.ended_s:.2f} s" if record.began_s else "",
        "nodes": ", ".join(nodes),
        "attempts": record.attempt,
        "actors": ", ".join(map(short_actor, actors)),
    }


def threads_table(threads: Iterable[Mapping[str, Any]]) -> Table:
    """Returns one row per thread, from the API's JSON."""
    return Table(
        (
            {
                "thread": thread["thread_id"],
                "status": thread["status"],
                "graph": (thread.get("metadata") or {}).get("graph_id", ""),
                "updated": _clock(thread["updated_at"]),
                "values": _clipped(_compact(thread.get("values"))),
            }
            for thread in threads
        ),
        "threads",
    )


def stored_runs_table(runs: Iterable[Mapping[str, Any]]) -> Table:
    """Returns one row per run, from the API's JSON."""
    return Table(
        (
            {
                "run": run["run_id"],
                "status": run["status"],
                "strategy": run.get("multitask_strategy") or "",
                "created": _clock(run["created_at"]),
            }
            for run in runs
        ),
        "runs",
    )


def actors_table(pool: Iterable[Mapping[str, Any]]) -> Table:
    """Returns one row per actor, from the answer of `/info`."""
    return Table(
        (
            {
                "actor": short_actor(member["actor"]),
                "process": member["pid"] or "",
                "state": member["state"],
                "runs": ", ".join(short(run_id) for run_id in member["runs"]),
            }
            for member in pool
        ),
        "actors",
    )


def _clock(moment: str) -> str:
    return moment.partition("T")[2][:8]


def _compact(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _clipped(text: str, most: int = 80) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _escaped(text: str) -> str:
    return html.escape(text, quote=False)


def _chip(status: str) -> str:
    color = COLORS.get(status, "#8a8a8a")
    return f'<span style="color:{color};font-weight:bold">{_escaped(status)}</span>'


# --- where it is shown ----------------------------------------------------------------------------


def in_notebook() -> bool:
    """Whether this process runs in a notebook, which shows HTML."""
    return hasattr(_shell(), "kernel")


def cell() -> int | None:
    """Returns the number of the cell that is being executed; None outside notebooks."""
    return getattr(_shell(), "execution_count", None)


def _shell() -> Any:
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


class Shown:
    """An output of a cell that changes: HTML in a notebook, lines on a terminal.

    Args:
        interval_s: the shortest time between two updates, in seconds.
    """

    def __init__(self, *, interval_s: float = UPDATE_INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._drawn_s = float("-inf")
        self._handle: Any = None
        self._in_notebook = in_notebook()

    def draw(self, as_html: Callable[[], str], *, last: bool = False) -> None:
        """Updates the output if the interval has passed, or if this update is the last one."""
        now_s = time.monotonic()
        if not self._in_notebook or (not last and now_s - self._drawn_s < self._interval_s):
            return
        from IPython.display import HTML, display

        self._drawn_s = now_s
        if self._handle is None:
            self._handle = display(HTML(as_html()), display_id=True)
        else:
            self._handle.update(HTML(as_html()))


class Bar:
    """The progress of a long task: a bar in a notebook, elsewhere a line per step.

    Args:
        total: the number of steps.
        quiet: show nothing.
    """

    def __init__(self, total: int, *, quiet: bool = False) -> None:
        self._total = total
        self._quiet = quiet
        self._shown = Shown(interval_s=0.0)
        self._text = ""

    def step(self, done: int, text: str) -> None:
        if self._quiet or text == self._text:
            return
        self._text = text
        if in_notebook():
            self._shown.draw(lambda: bar_html(done, self._total, text))
        else:
            print(f"{text} ...", file=sys.stderr, flush=True)

    def done(self, text: str) -> None:
        """Replaces the bar by a line."""
        if self._quiet:
            return
        if in_notebook():
            self._shown.draw(lambda: f"<div>{_escaped(text)}</div>", last=True)
        else:
            print(text, file=sys.stderr, flush=True)


def bar_html(done: int, total: int, text: str) -> str:
    """Returns a progress bar with a text beside it."""
    return (
        f'<div><progress value="{done}" max="{total}" style="width:240px"></progress> '
        f"{_escaped(text)}</div>"
    )
