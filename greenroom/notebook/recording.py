"""Records of runs: their events with the server's times, and the facts that follow from them.

Everything here is pure. A `RunRecord` is made of recorded events, and all displays (tables, the
live view, timelines) are made of records. So a picture can be drawn again elsewhere and later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SpanKind = Literal["queued", "running", "node", "recovering"]


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

    @property
    def over(self) -> bool:
        return self.ended_s is not None

    @property
    def attempt(self) -> int:
        """The number of the last attempt that has begun; 0 while the run is queued."""
        return max((each.data["attempt"] for each in self._metadata), default=0)

    @property
    def actor(self) -> str:
        """The actor of the last attempt; empty if it was not seen."""
        return self.actors.get(self.attempt, "")

    @property
    def began_s(self) -> float | None:
        return next((each.at_s for each in self._metadata), None)

    @property
    def seen_until_s(self) -> float:
        """The time of the last known event."""
        last_s = self.events[-1].at_s if self.events else self.asked_s
        return max(last_s, self.ended_s or 0.0)

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

    ``running`` is an attempt from its start to its end; the intervals of its nodes lie within it.
    """
    begun_s = record.began_s
    queued_until_s = begun_s if begun_s is not None else record.seen_until_s
    found = [Span(kind="queued", began_s=record.asked_s, ended_s=queued_until_s)]
    open_tasks: dict[str, tuple[str, float]] = {}
    attempt, last_s, begun_at_s = 0, record.asked_s, record.asked_s
    for event in record.events:
        if event.name == "metadata":
            if attempt:
                found += _attempt_over(open_tasks, begun_at_s, last_s, attempt)
                found.append(
                    Span(
                        kind="recovering",
                        began_s=last_s,
                        ended_s=event.at_s,
                        attempt=event.data["attempt"],
                    )
                )
            attempt, begun_at_s = event.data["attempt"], event.at_s
            open_tasks = {}
        elif event.name == "tasks":
            found += _task(open_tasks, event, attempt)
        last_s = event.at_s
    if attempt:
        found += _attempt_over(open_tasks, begun_at_s, record.seen_until_s, attempt)
    return found


def _task(open_tasks: dict[str, tuple[str, float]], event: Event, attempt: int) -> Iterable[Span]:
    task_id, name = event.data["id"], event.data["name"]
    if "result" not in event.data and "interrupts" not in event.data:
        open_tasks[task_id] = name, event.at_s
    elif task_id in open_tasks:
        name, began_s = open_tasks.pop(task_id)
        yield Span(kind="node", began_s=began_s, ended_s=event.at_s, name=name, attempt=attempt)


def _attempt_over(
    open_tasks: Mapping[str, tuple[str, float]], began_s: float, at_s: float, attempt: int
) -> list[Span]:
    return [
        Span(kind="running", began_s=began_s, ended_s=at_s, attempt=attempt),
        *(
            Span(kind="node", began_s=node_s, ended_s=at_s, name=name, attempt=attempt, cut=True)
            for name, node_s in open_tasks.values()
        ),
    ]


def running_nodes(record: RunRecord) -> list[str]:
    """Returns the nodes that are running now."""
    if record.over:
        return []
    return [span.name for span in spans(record) if span.cut and span.attempt == record.attempt]


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
