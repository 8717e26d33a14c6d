"""The life of a run as intervals of time, from what is stored: one description for all pictures.

    queued ─> starting ─> node, node ... ─(died)─> recovering ─> node ... ─> (end)
              └──────────── running ──────────┘    └── running of the next attempt ──┘

Three things are stored. The *history* of a run: an entry for each change of its record, written
with that change. The *notes* of its nodes, written when an attempt reports. And the checkpoints: an
attempt that died has reported nothing, but each of its checkpoints says when a superstep was over,
and which nodes that superstep had. What it was executing when it died, the first superstep of the
next attempt tells: that executes the same again.

History entries are JSON arrays: the kind, Unix milliseconds, the attempt, and what the kind has:

    ["start", at, attempt, actor, host, pid]
    ["lost", at, attempt, why]
    ["paused", at, attempt, [node, ...]]
    ["resumed", at, attempt]                        also by a step
    ["end", at, attempt]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from greenroom.core.nodes import NodeNote, is_of_the_graph

Entry = list[Any]
JsonObject = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedStep:
    """A checkpoint as the end of a superstep.

    Attributes:
        at_ms: Unix milliseconds.
        names: the nodes of the superstep.
    """

    attempt: int
    namespace: str
    step: int
    at_ms: int
    names: Sequence[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredLife:
    """What is stored of a run.

    Attributes:
        record: the run's ids, ``status``, ``error``, ``interrupts``; as they are shown.
        created_ms: Unix milliseconds.
        ended_ms: the same; None while it is not over.
        history: as above.
        notes: of the nodes, by attempt.
        steps: the checkpoints of attempts without notes, in order.
        inputs: what was said to it.
    """

    record: JsonObject
    created_ms: int
    ended_ms: int | None
    history: Sequence[Entry]
    notes: Mapping[int, Sequence[NodeNote]]
    steps: Sequence[SavedStep] = ()
    inputs: Sequence[JsonObject] = ()


@dataclass(slots=True)
class _Attempt:
    number: int
    start_ms: int
    actor: str
    host: str | None
    pid: int | None
    end_ms: int | None = None
    why: str | None = None


def begun(attempt: int, actor: str, host: str | None, pid: int | None, at_ms: int) -> Entry:
    """Returns the entry of an attempt that begins."""
    return ["start", at_ms, attempt, actor, host, pid]


def timeline(life: StoredLife) -> JsonObject:
    """Returns the answer of ``GET /threads/{thread_id}/runs/{run_id}/timeline``."""
    attempts = _attempts(life)
    spans = [_queued(life, attempts), *_recovering(life, attempts), *_paused(life)]
    for place, attempt in enumerate(attempts):
        following = attempts[place + 1] if place + 1 < len(attempts) else None
        spans += _of_attempt(life, attempt, following)
    spans.sort(key=lambda span: (span["start"], _ORDER[span["kind"]]))
    return {
        **life.record,
        "created_at": _iso(life.created_ms),
        "ended_at": _iso(life.ended_ms),
        "attempts": [
            {
                "attempt": each.number,
                "actor": each.actor,
                "host": each.host,
                "pid": each.pid,
                "start": _iso(each.start_ms),
                "end": _iso(each.end_ms),
                "why": each.why,
            }
            for each in attempts
        ],
        "spans": spans,
        "inputs": [*life.inputs],
    }


_ORDER = {"queued": 0, "recovering": 1, "running": 2, "starting": 3, "paused": 4, "node": 5}


def _attempts(life: StoredLife) -> list[_Attempt]:
    found: dict[int, _Attempt] = {}
    for kind, at_ms, number, *more in life.history:
        if kind == "start":
            actor, host, pid = more
            found[number] = _Attempt(number, at_ms, actor, host, pid)
        elif kind == "lost" and number in found:
            found[number].end_ms, found[number].why = at_ms, more[0]
    in_order = [found[number] for number in sorted(found)]
    if in_order and in_order[-1].end_ms is None:
        in_order[-1].end_ms = life.ended_ms
    return in_order


def _queued(life: StoredLife, attempts: list[_Attempt]) -> JsonObject:
    end_ms = attempts[0].start_ms if attempts else life.ended_ms
    # A run that begins at once may be dated before its record is written.
    start_ms = life.created_ms if end_ms is None else min(life.created_ms, end_ms)
    return _span("queued", start_ms, end_ms)


def _recovering(life: StoredLife, attempts: list[_Attempt]) -> Iterable[JsonObject]:
    for place, each in enumerate(attempts):
        if each.why is None or each.end_ms is None:
            continue
        is_last = place + 1 == len(attempts)
        end_ms = life.ended_ms if is_last else attempts[place + 1].start_ms
        number = each.number if is_last else attempts[place + 1].number
        yield _span("recovering", each.end_ms, end_ms, attempt=number)


def _paused(life: StoredLife) -> Iterable[JsonObject]:
    since: tuple[int, int, str] | None = None
    for kind, at_ms, number, *more in life.history:
        if since is not None and kind in ("paused", "resumed", "lost", "end"):
            yield _span("paused", since[0], at_ms, attempt=since[1], name=since[2])
            since = None
        if kind == "paused":
            since = at_ms, number, ", ".join(more[0])
    if since is not None:
        yield _span("paused", since[0], life.ended_ms, attempt=since[1], name=since[2])


def _of_attempt(
    life: StoredLife, attempt: _Attempt, following: _Attempt | None
) -> Iterable[JsonObject]:
    notes = life.notes.get(attempt.number)
    nodes = (
        [*_noted(attempt, notes)] if notes is not None else [*_derived(life, attempt, following)]
    )
    yield _span("running", attempt.start_ms, attempt.end_ms, attempt=attempt.number)
    first_ms = min((start_ms for start_ms, _ in nodes), default=None)
    if first_ms is not None and first_ms > attempt.start_ms:
        yield _span("starting", attempt.start_ms, first_ms, attempt=attempt.number)
    for _, span in nodes:
        yield span


def _noted(attempt: _Attempt, notes: Sequence[NodeNote]) -> Iterable[tuple[int, JsonObject]]:
    for note in notes:
        end_ms = note.end_ms if note.end_ms is not None else attempt.end_ms
        yield (
            note.start_ms,
            _span(
                "node",
                note.start_ms,
                end_ms,
                attempt=attempt.number,
                name=note.name,
                namespace=note.namespace,
                step=note.step,
                task_id=note.task_id or None,
                error=note.error,
                cut=note.end_ms is None and attempt.end_ms is not None,
            ),
        )


def _derived(
    life: StoredLife, attempt: _Attempt, following: _Attempt | None
) -> Iterable[tuple[int, JsonObject]]:
    """Yields the nodes of an attempt that has not reported, from its checkpoints."""
    begun_ms: dict[str, int] = {}
    last_step: int | None = None
    for saved in life.steps:
        if saved.attempt != attempt.number:
            continue
        start_ms = begun_ms.get(saved.namespace, attempt.start_ms)
        begun_ms[saved.namespace] = saved.at_ms
        if not saved.namespace:
            last_step = saved.step
        for name in filter(is_of_the_graph, saved.names):
            yield (
                start_ms,
                _span(
                    "node",
                    start_ms,
                    saved.at_ms,
                    attempt=attempt.number,
                    name=name,
                    namespace=saved.namespace,
                    step=saved.step,
                ),
            )
    if attempt.end_ms is None or following is None:
        return
    again = [note for note in life.notes.get(following.number, ()) if not note.namespace]
    step = min((note.step for note in again), default=None)
    if step is None or (last_step is not None and step != last_step + 1):
        return
    start_ms = begun_ms.get("", attempt.start_ms)
    for name in dict.fromkeys(note.name for note in again if note.step == step):
        span = _span(
            "node",
            start_ms,
            max(start_ms, attempt.end_ms),
            attempt=attempt.number,
            name=name,
            step=step,
            cut=True,
        )
        yield start_ms, span


def _span(
    kind: str,
    start_ms: int,
    end_ms: int | None,
    *,
    attempt: int = 0,
    name: str = "",
    namespace: str = "",
    step: int | None = None,
    task_id: str | None = None,
    error: str | None = None,
    cut: bool = False,
) -> JsonObject:
    return {
        "kind": kind,
        "name": name,
        "namespace": namespace,
        "attempt": attempt,
        "step": step,
        "task_id": task_id,
        "start": _iso(start_ms),
        "end": _iso(end_ms),
        "error": error,
        "cut": cut,
    }


def _iso(at_ms: int | None) -> str | None:
    if at_ms is None:
        return None
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
