"""Models of the answers, for the OpenAPI document only; the answers are encoded from records."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    model_config = ConfigDict(extra="allow")


class Error(Answer):
    """The body of every error: one sentence."""

    detail: str


class Ok(Answer):
    ok: bool
    services: dict[str, Any]


class Info(Answer):
    version: str
    langgraph_py_version: str
    flags: dict[str, bool]
    host: dict[str, Any]


class Run(Answer):
    run_id: str
    thread_id: str
    assistant_id: str
    metadata: dict[str, Any]
    status: str
    kwargs: dict[str, Any]
    multitask_strategy: str
    created_at: str
    updated_at: str
    assistant_version: int | None


class RunInput(Answer):
    input_id: str
    run_id: str
    number: int
    status: Literal["waiting", "taken", "started", "refused", "dropped"]
    for_run_id: str
    said_at: str


class Thread(Answer):
    thread_id: str
    created_at: str
    updated_at: str
    metadata: dict[str, Any]
    status: str
    config: dict[str, Any]
    values: Any


class ThreadState(Answer):
    values: Any
    next: list[str]
    tasks: list[dict[str, Any]]
    checkpoint: dict[str, Any] | None
    metadata: dict[str, Any] | None
    created_at: str | None
    parent_checkpoint: dict[str, Any] | None
    interrupts: list[Any]


class Assistant(Answer):
    assistant_id: str
    graph_id: str
    config: dict[str, Any]
    context: dict[str, Any]
    metadata: dict[str, Any]
    name: str
    version: int
    description: str | None
    created_at: str
    updated_at: str


class AssistantVersion(Answer):
    assistant_id: str
    version: int
    graph_id: str
    config: dict[str, Any]
    context: dict[str, Any]
    metadata: dict[str, Any]
    created_at: str
    name: str
    description: str | None


class Cron(Answer):
    cron_id: str
    assistant_id: str
    thread_id: str | None
    user_id: str
    end_time: str | None
    schedule: str
    timezone: str | None
    payload: dict[str, Any]
    next_run_date: str
    metadata: dict[str, Any]
    on_run_completed: str | None
    enabled: bool
    created_at: str
    updated_at: str


class Stack(Answer):
    run_id: str
    thread_id: str
    attempt: int
    actor: str
    host: str
    pid: int
    taken_at: str
    by: Literal["actor", "signal"]
    memory_bytes: int | None
    cpu_percent: float | None
    nodes: list[dict[str, Any]]
    threads: list[dict[str, Any]]
    tasks: list[dict[str, Any]]


class Paused(Answer):
    run_id: str
    thread_id: str
    paused: dict[str, Any] | None


class Timeline(Answer):
    run_id: str
    thread_id: str
    assistant_id: str
    graph_id: str
    status: str
    error: dict[str, Any] | None
    created_at: str
    ended_at: str | None
    attempts: list[dict[str, Any]]
    spans: list[dict[str, Any]]
    inputs: list[dict[str, Any]]


class Runtime(Answer):
    at: str
    pools: list[dict[str, Any]]
    actors: list[dict[str, Any]]
    queue: list[dict[str, Any]]
    totals: dict[str, int]
    rates: list[dict[str, Any]]
    latency: dict[str, dict[str, float | None]]
    deaths: list[dict[str, Any]]
    problem: str | None


class Feedback(Answer):
    feedback_id: str
    run_id: str
    key: str
    score: float | None
    value: Any
    comment: str | None
    correction: Any
    created_at: str


class Stored(Answer):
    count: int
    bytes: int


class ThreadStorage(Answer):
    thread_id: str
    total_bytes: int
    checkpoints: Stored
    channel_values: Stored
    pending_writes: Stored


class Item(Answer):
    namespace: list[str]
    key: str
    value: dict[str, Any]
    created_at: str
    updated_at: str


class FoundItem(Item):
    """An item of a search; ``score`` is null without a query, and for an item without a vector."""

    score: float | None


class FoundItems(Answer):
    items: list[FoundItem]


class Namespaces(Answer):
    namespaces: list[list[str]]


class Delivery(Answer):
    """The webhook of a run; the id is the run's, and the receiver gets it as ``webhook-id``."""

    delivery_id: str
    run_id: str
    thread_id: str
    assistant_id: str
    receiver: str
    status: Literal["pending", "delivered", "failed"]
    run_status: str
    attempts: int
    answer: str | None
    created_at: str
    sent_at: str | None
    settled_at: str | None
    next_attempt_at: str | None


class Pruned(Answer):
    pruned_count: int
