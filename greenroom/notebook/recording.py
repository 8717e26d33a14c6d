"""Records of runs: their events with the server's times, and the facts that follow from them.

Everything here is pure. A `RunRecord` is made of recorded events and of the server's timeline, and
all displays (tables, the live view, pictures) are made of records. So a picture can be drawn again
elsewhere and later, also of a run that was not followed (`record_of`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

SpanKind = Literal["queued", "starting", "running", "node", "paused", "recovering"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """An event of a stream.

    Attributes:
        at_s: the time of its creation by the server's clock (Unix time in seconds).
    """

    at_s: float
    name: str
    data: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """The record of one run.

    Attributes:
        label: the name of the run in tables and pictures.
        asked_s: the time of its creation.
        ended_s: the time when its end was seen; None before.
        status: the run's status as the API names it, or ``rejected`` or ``rolled back``.
        actors: the name of the actor of each attempt.
        timeline: the server's timeline of the run, as it was last seen; None without one.
    """

    label: str
    graph: str
    asked_s: float
    run_id: str = ""
    thread_id: str = ""
    events: tuple[Event, ...] = ()
    status: str = "pending"
    ended_s: float | None = None
    actors: Mapping[int, str] = field(default_factory=dict[int, str])
    timeline: Mapping[str, Any] | None = None

    @property
    def over(self) -> bool:
        return self.ended_s is not None

    @property
    def attempt(self) -> int:
        """The number of the last attempt that has begun; 0 while the run is queued."""
        seen = [each.data["attempt"] for each in self._metadata]
        return max([*seen, *self.begun], default=0)

    @property
    def begun(self) -> dict[int, float]:
        """The time at which each attempt has begun, as the timeline tells."""
        told = [] if self.timeline is None else self.timeline["attempts"]
        return {each["attempt"]: seconds_of(each["start"]) for each in told}

    @property
    def actor(self) -> str:
        """The actor of the last attempt; empty if it was not seen."""
        return self.actors.get(self.attempt, "")

    @property
    def began_s(self) -> float | None:
        return next((each.at_s for each in self._metadata), None) or min(
            self.begun.values(), default=None
        )

    @property
    def seen_until_s(self) -> float:
        """The time of the last known event."""
        last_s = self.events[-1].at_s if self.events else self.asked_s
        return max(last_s, self.ended_s or 0.0, *self.begun.values())

    @property
    def _metadata(self) -> list[Event]:
        return [event for event in self.events if event.name == "metadata"]

    @property
    def waits_for(self) -> list[Any]:
        """The questions that the run's ``interrupt()`` calls ask a human."""
        found: list[Any] = []
        for event in self.events:
            if event.name == "tasks":
                found += [each["value"] for each in event.data.get("interrupts") or []]
        return found

    @property
    def text(self) -> str:
        """The text of the run's models: their tokens, one message after the other."""
        return "\n".join(text for _, text in messages(self.events))


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """An interval in the life of a run.

    Attributes:
        name: the name of the node; empty for the other kinds.
        attempt: the number of the attempt; 0 while the run was queued.
        cut: whether it was interrupted: its process died, or the run was cancelled.
    """

    kind: SpanKind
    began_s: float
    ended_s: float
    name: str = ""
    attempt: int = 0
    cut: bool = False


def spans(record: RunRecord) -> list[Span]:
    """Returns the intervals of a run: its time in the queue, its attempts and their nodes.

    They are those of the server's timeline. ``running`` is an attempt from its start to its end;
    the intervals of its nodes lie within it. Without a timeline the run was queued, or rejected.
    """
    if record.timeline is None:
        until_s = record.seen_until_s if record.began_s is None else record.began_s
        return [Span(kind="queued", began_s=record.asked_s, ended_s=until_s)]
    found: list[Span] = []
    for each in record.timeline["spans"]:
        began_s = seconds_of(each["start"])
        ended_s = record.seen_until_s if each["end"] is None else seconds_of(each["end"])
        found.append(
            Span(
                kind=each["kind"],
                began_s=began_s,
                ended_s=max(began_s, ended_s),
                name=each["name"],
                attempt=each["attempt"],
                cut=each["cut"],
            )
        )
    return found


def record_of(timeline: Mapping[str, Any], label: str = "") -> RunRecord:
    """Returns the record of a run that was not followed, from the server's timeline of it.

    Args:
        timeline: the answer of ``GET /threads/{thread_id}/runs/{run_id}/timeline``.
        label: the name of the run in tables and pictures; by default the end of its id.
    """
    ended = timeline["ended_at"]
    return RunRecord(
        label=label or timeline["run_id"][-8:],
        graph=timeline["graph_id"],
        asked_s=seconds_of(timeline["created_at"]),
        run_id=timeline["run_id"],
        thread_id=timeline["thread_id"],
        status=timeline["status"],
        ended_s=None if ended is None else seconds_of(ended),
        actors={each["attempt"]: each["actor"] for each in timeline["attempts"]},
        timeline=timeline,
    )


def seconds_of(moment: str) -> float:
    """Returns a time of the server as Unix time in seconds."""
    return datetime.fromisoformat(moment).timestamp()


def running_nodes(record: RunRecord) -> list[str]:
    """Returns the nodes that are running now, as the run's events tell."""
    open_tasks: dict[str, str] = {}
    for event in record.events if not record.over else ():
        if event.name == "metadata":
            open_tasks = {}
        elif event.name == "tasks":
            is_end = "result" in event.data or "interrupts" in event.data
            if is_end:
                open_tasks.pop(event.data["id"], None)
            else:
                open_tasks[event.data["id"]] = event.data["name"]
    return [*open_tasks.values()]


def messages(events: Iterable[Event]) -> list[tuple[str, str]]:
    """Returns each message of a model: its node, and its text so far.

    A repeated message, whole or from another attempt, replaces the earlier one.
    """
    found: dict[str, tuple[str, str]] = {}
    attempt_of: dict[str, int] = {}
    attempt = 0
    for event in events:
        if event.name == "metadata":
            attempt = event.data["attempt"]
        if event.name != "messages":
            continue
        chunk, about = event.data
        if chunk["type"] not in ("ai", "AIMessageChunk"):
            continue
        # A model that is asked again by another attempt begins anew, under another id.
        key = chunk.get("id") or ""
        node = about.get("langgraph_node", "")
        before = found.get(key, (node, ""))[1]
        grows = chunk["type"] == "AIMessageChunk" and attempt_of.get(key, attempt) == attempt
        found[key] = node, (before if grows else "") + text_of(chunk["content"])
        attempt_of[key] = attempt
    return [(node, text) for node, text in found.values() if text]


def text_of(content: Any) -> str:
    """Returns the text of a message's content, which is a string or a list of blocks."""
    if isinstance(content, str):
        return content
    return "".join(
        block if isinstance(block, str) else block.get("text", "") for block in content or []
    )


def time_of(event_id: str | None) -> float | None:
    """Returns the time of an event: its id begins with the milliseconds."""
    if not event_id or not event_id.partition("-")[0].isdigit():
        return None
    return int(event_id.partition("-")[0]) / 1000
