"""Records as a server would have given them, for pictures and tables without a server."""

from __future__ import annotations

from typing import Any

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
    )
