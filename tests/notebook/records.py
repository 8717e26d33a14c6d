"""Records as a server would have given them, for pictures and tables without a server."""

from __future__ import annotations

from typing import Any

from greenroom.core.nodes import NodeNote
from greenroom.core.timeline import StoredLife, timeline
from greenroom.notebook.recording import Event, RunRecord


def metadata(at_s: float, attempt: int = 1) -> Event:
    return Event(at_s=at_s, name="metadata", data={"run_id": "r", "attempt": attempt})


def began(at_s: float, node: str, task: str = "") -> Event:
    data = {"id": task or node, "name": node, "input": {}, "triggers": []}
    return Event(at_s=at_s, name="tasks", data=data)


def finished(at_s: float, node: str, task: str = "", interrupts: Any = ()) -> Event:
    data = {"id": task or node, "name": node, "result": {}, "interrupts": list(interrupts)}
    return Event(at_s=at_s, name="tasks", data=data)


def token(at_s: float, text: str, message: str = "m1", node: str = "answer") -> Event:
    chunk = {"type": "AIMessageChunk", "id": message, "content": text}
    return Event(at_s=at_s, name="messages", data=[chunk, {"langgraph_node": node}])


def drawn(
    created_s: float,
    ended_s: float | None,
    begun: dict[int, tuple[float, str]],
    *nodes: Any,
    **lost: Any,
) -> Any:
    """The server's timeline: attempts with their begin and their actor, and nodes as
    ``(attempt, name, step, began, ended)``; ``died`` says when the first attempt was lost."""
    history: list[Any] = []
    for number, (at_s, actor) in begun.items():
        history.append(["start", round(at_s * 1000), number, actor, "h", 7])
        if number == 1 and "died" in lost:
            history.append(["lost", round(lost["died"] * 1000), 1, "died"])
    notes: dict[int, list[NodeNote]] = {}
    for number, name, step, began_s, end_s in nodes:
        notes.setdefault(number, []).append(
            NodeNote(
                name=name,
                namespace="",
                step=step,
                task_id=f"{name}-{step}",
                start_ms=round(began_s * 1000),
                end_ms=None if end_s is None else round(end_s * 1000),
            )
        )
    record = {"run_id": "r-12345678", "thread_id": "t", "graph_id": "agent", "status": "success"}
    return timeline(
        StoredLife(
            record=record,
            created_ms=round(created_s * 1000),
            ended_ms=None if ended_s is None else round(ended_s * 1000),
            history=history,
            notes=notes,
        )
    )


def plain(label: str = "plain", asked_s: float = 100.0) -> RunRecord:
    """Queued for half a second, then two nodes."""
    return RunRecord(
        label=label,
        graph="agent",
        run_id="run-id-1",
        asked_s=asked_s,
        events=(
            metadata(asked_s + 0.5),
            began(asked_s + 0.6, "think"),
            finished(asked_s + 1.0, "think"),
            began(asked_s + 1.1, "act"),
            finished(asked_s + 1.5, "act"),
        ),
        status="success",
        ended_s=asked_s + 1.6,
        actors={1: "run-aaaabbbbcccc"},
        timeline=drawn(
            asked_s,
            asked_s + 1.6,
            {1: (asked_s + 0.5, "run-aaaabbbbcccc")},
            (1, "think", 1, asked_s + 0.6, asked_s + 1.0),
            (1, "act", 2, asked_s + 1.1, asked_s + 1.5),
        ),
    )


def crashed(label: str = "crashed") -> RunRecord:
    """Its process dies in `act`, another one does that again."""
    return RunRecord(
        label=label,
        graph="agent",
        asked_s=100.0,
        events=(
            metadata(100.1),
            began(100.2, "think"),
            finished(100.6, "think"),
            began(100.7, "act"),
            token(100.9, "half", "m1", "act"),
            metadata(101.5, attempt=2),
            began(101.6, "act"),
            token(101.7, "who", "m2", "act"),
            token(101.8, "le", "m2", "act"),
            finished(102.0, "act"),
        ),
        status="success",
        ended_s=102.1,
        actors={1: "run-aaaabbbbcccc", 2: "run-ddddeeeeffff"},
        timeline=drawn(
            100.0,
            102.1,
            {1: (100.1, "run-aaaabbbbcccc"), 2: (101.5, "run-ddddeeeeffff")},
            (1, "think", 1, 100.2, 100.6),
            (1, "act", 2, 100.7, None),
            (2, "act", 2, 101.6, 102.0),
            died=100.9,
        ),
    )


def rejected() -> RunRecord:
    return RunRecord(
        label="rejected", graph="agent", asked_s=101.0, status="rejected", ended_s=101.05
    )


def asking() -> RunRecord:
    """It has stopped at an `interrupt()`."""
    question = {"id": "i", "value": "Refund?"}
    return RunRecord(
        label="asking",
        graph="agent",
        asked_s=100.0,
        events=(
            metadata(100.1),
            began(100.2, "ask"),
            finished(100.3, "ask", interrupts=[question]),
        ),
        status="success",
        ended_s=100.4,
        actors={1: "run-aaaabbbbcccc"},
        timeline=drawn(100.0, 100.4, {1: (100.1, "run-aaaabbbbcccc")}, (1, "ask", 1, 100.2, 100.3)),
    )
