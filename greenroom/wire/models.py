"""Models of the request bodies; `greenroom.wire.answers` has the models of the answers.

Unknown keys are ignored, as in LangGraph's server; an explicit ``null`` means that the field is
absent. Types are strict, so that a mistake such as `"yes"` for a boolean gives an error.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import orjson
from pydantic import BaseModel, ConfigDict, Field, InstanceOf, StringConstraints
from pydantic.json_schema import SkipJsonSchema
from typing_extensions import TypedDict

from greenroom.core.inputs import IfOver
from greenroom.core.runs import MultitaskStrategy
from greenroom.core.threads import ExpiryStrategy
from greenroom.wire.dialects import IfNotExists, OnDisconnect

StreamMode = Literal[
    "values",
    "updates",
    "messages",
    "messages-tuple",
    "custom",
    "events",
    "debug",
    "tasks",
    "checkpoints",
]
ThreadStreamMode = Literal["run_modes", "lifecycle", "state_update"]
Durability = Literal["sync", "async", "exit"]
OnCompletion = Literal["delete", "keep"]

ThreadField = Literal[
    "thread_id",
    "created_at",
    "updated_at",
    "state_updated_at",
    "metadata",
    "config",
    "context",
    "status",
    "values",
    "interrupts",
    "error",
]
CronField = Literal[
    "cron_id",
    "assistant_id",
    "thread_id",
    "user_id",
    "end_time",
    "schedule",
    "timezone",
    "payload",
    "next_run_date",
    "metadata",
    "on_run_completed",
    "enabled",
    "created_at",
    "updated_at",
]
RunField = Literal[
    "run_id",
    "thread_id",
    "assistant_id",
    "created_at",
    "updated_at",
    "status",
    "metadata",
    "kwargs",
    "multitask_strategy",
    "cancel_reason",
    "langsmith_session_name",
    "assistant_version",
]

MAX_DELAY_S = 10 * 365 * 86_400
MAX_OFFSET = 2**31 - 1
MAX_KEY_CHARACTERS = 255
"""The longest key of feedback."""

Object = dict[str, Any]
Json = SkipJsonSchema[InstanceOf[orjson.Fragment]]
"""An unparsed part of a large body: an object, or another value that is allowed in its place.
`greenroom.wire.splitting` has checked the part's type."""
Offset = Annotated[int, Field(ge=0, le=MAX_OFFSET)]
Limit = Annotated[int, Field(ge=1, le=1000)]
Minutes = Annotated[float, Field(gt=0, le=5_256_000, allow_inf_nan=False)]
Pair = Annotated[list[Any], Field(min_length=2, max_length=2)]
Name = Annotated[str, StringConstraints(min_length=1)]
FeedbackKey = Annotated[str, StringConstraints(min_length=1, max_length=MAX_KEY_CHARACTERS)]


class Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class RunConfig(TypedDict, total=False):
    """A ``RunnableConfig``. Other keys are shown, but the graph does not get them."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[misc]

    configurable: Object | None
    metadata: Object | None
    tags: list[str] | None
    recursion_limit: Annotated[int, Field(ge=1, le=1_000_000)] | None
    max_concurrency: Annotated[int, Field(ge=1)] | None
    run_name: str | None


class Checkpoint(TypedDict, total=False):
    """A checkpoint in a thread's history. ``thread_id`` is ignored in favour of the path's."""

    __pydantic_config__ = ConfigDict(extra="ignore", strict=True)  # type: ignore[misc]

    thread_id: str | None
    checkpoint_id: str | None
    checkpoint_ns: str | None
    checkpoint_map: Object | None


class Send(TypedDict):
    """The next node, with its own input."""

    __pydantic_config__ = ConfigDict(extra="ignore", strict=True)  # type: ignore[misc]

    node: str
    input: Any


class LangsmithTracer(TypedDict, total=False):
    """The project, or the example of a data set, that the trace of a run is for."""

    __pydantic_config__ = ConfigDict(extra="ignore", strict=True)  # type: ignore[misc]

    project_name: str | None
    example_id: str | None


class Command(TypedDict, total=False):
    """A command that the run gets instead of an input."""

    __pydantic_config__ = ConfigDict(extra="ignore", strict=True)  # type: ignore[misc]

    resume: Any
    update: Object | list[Pair] | Json | None
    goto: str | Send | list[str] | list[Send] | None


class RunCreate(Body):
    """The body of every route that creates a run, with or without a thread."""

    assistant_id: Name | None = None
    input: Any = None
    command: Command | None = None
    config: RunConfig | None = None
    context: Object | None = None
    metadata: Object | None = None
    stream_mode: StreamMode | list[StreamMode] | None = None
    stream_subgraphs: bool | None = None
    stream_resumable: bool | None = None
    feedback_keys: list[FeedbackKey] | None = None
    interrupt_before: Literal["*"] | list[str] | None = None
    interrupt_after: Literal["*"] | list[str] | None = None
    checkpoint: Checkpoint | None = None
    checkpoint_id: str | None = None
    webhook: str | None = None
    multitask_strategy: MultitaskStrategy | None = None
    on_completion: OnCompletion | None = None
    on_disconnect: OnDisconnect | None = None
    after_seconds: Annotated[float, Field(le=MAX_DELAY_S, allow_inf_nan=False)] | None = None
    if_not_exists: IfNotExists | None = None
    checkpoint_during: bool | None = None
    durability: Durability | None = None
    langsmith_tracer: LangsmithTracer | None = None
    strict_resume: bool | None = None


class InputCreate(Body):
    """Something that is said to a run."""

    input: Any = None
    command: Command | None = None
    as_node: str | None = None
    if_over: IfOver | None = None


class CronOptions(RunCreate):
    """The fields of a cron that its change may have as well: those of a run, and its own."""

    timezone: str | None = None
    end_time: str | None = None
    enabled: bool | None = None
    on_run_completed: OnCompletion | None = None


class CronCreate(CronOptions):
    """The body of every route that creates a cron, with or without a thread."""

    schedule: str


class CronPatch(CronOptions):
    """The changes of a cron; ``end_time: null`` clears the end."""

    schedule: str | None = None


class CronCount(Body):
    assistant_id: str | None = None
    thread_id: str | None = None
    enabled: bool | None = None
    metadata: Object | None = None


class CronSearch(CronCount):
    limit: Limit | None = None
    offset: Offset | None = None
    sort_by: (
        Literal[
            "cron_id",
            "assistant_id",
            "thread_id",
            "next_run_date",
            "end_time",
            "created_at",
            "updated_at",
        ]
        | None
    ) = None
    sort_order: Literal["asc", "desc", "ASC", "DESC"] | None = None
    select: list[CronField] | None = None


class Feedback(Body):
    """What somebody says about a run; at least one field."""

    score: Annotated[float, Field(allow_inf_nan=False)] | None = None
    value: str | bool | int | float | Object | None = None
    comment: str | None = None
    correction: str | Object | None = None


class FeedbackCreate(Feedback):
    key: Name


class RunsCancel(Body):
    """The runs to cancel: some runs of a thread, or every run with a status."""

    thread_id: str | None = None
    run_ids: list[str] | None = None
    status: Literal["pending", "running", "all"] | None = None


class RunCount(Body):
    """The runs of all threads; ``agent_id`` is the open agent protocol's ``assistant_id``."""

    thread_id: str | None = None
    assistant_id: str | None = None
    agent_id: str | None = None
    status: Literal["pending", "running", "success", "error", "timeout", "interrupted"] | None = (
        None
    )
    metadata: Object | None = None


class RunSearch(RunCount):
    limit: Limit | None = None
    offset: Offset | None = None
    sort_order: Literal["asc", "desc", "ASC", "DESC"] | None = None
    select: list[RunField] | None = None


class Ttl(TypedDict, total=False):
    """The lifetime of a thread in minutes, and the action at its end."""

    __pydantic_config__ = ConfigDict(extra="ignore", strict=True)  # type: ignore[misc]

    ttl: Minutes | None
    strategy: ExpiryStrategy | None


class SuperstepUpdate(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra="ignore", strict=True)  # type: ignore[misc]

    values: Any
    command: Command | None
    as_node: str | None


class Superstep(TypedDict):
    __pydantic_config__ = ConfigDict(extra="ignore", strict=True)  # type: ignore[misc]

    updates: list[SuperstepUpdate]


class ThreadCreate(Body):
    thread_id: str | None = None
    metadata: Object | None = None
    if_exists: Literal["raise", "do_nothing"] | None = None
    ttl: Ttl | None = None
    supersteps: list[Superstep] | None = None


class ThreadPatch(Body):
    metadata: Object | None = None
    ttl: Ttl | None = None


class ThreadCount(Body):
    metadata: Object | None = None
    values: Object | None = None
    status: Literal["idle", "busy", "interrupted", "error"] | None = None
    ids: list[str] | None = None


class ThreadSearch(ThreadCount):
    limit: Limit | None = None
    offset: Offset | None = None
    sort_by: (
        Literal["thread_id", "status", "created_at", "updated_at", "state_updated_at"] | None
    ) = None
    sort_order: Literal["asc", "desc", "ASC", "DESC"] | None = None
    select: list[ThreadField] | None = None
    extract: Annotated[dict[str, str], Field(max_length=10)] | None = None


class ThreadsPrune(Body):
    thread_ids: list[str]
    strategy: Literal["delete", "keep_latest"] | None = None


class StateRead(Body):
    """The body of `POST /threads/{t}/state/checkpoint`."""

    checkpoint: Checkpoint | None = None
    subgraphs: bool | None = None
    select: list[str] | None = None


class StateWrite(Body):
    values: Object | list[Any] | Json | None = None
    checkpoint: Checkpoint | None = None
    checkpoint_id: str | None = None
    as_node: str | None = None


class StatePatch(Body):
    metadata: Object | None = None


class History(Body):
    """A history query. ``before`` is a checkpoint id, a checkpoint, or a config with one."""

    limit: Limit | None = None
    before: str | Object | None = None
    metadata: Object | None = None
    checkpoint: Checkpoint | None = None
    select: list[str] | None = None


BODIES: tuple[type[Body], ...] = (
    RunCreate,
    InputCreate,
    CronCreate,
    CronPatch,
    CronCount,
    CronSearch,
    Feedback,
    FeedbackCreate,
    RunsCancel,
    RunCount,
    RunSearch,
    ThreadCreate,
    ThreadPatch,
    ThreadCount,
    ThreadSearch,
    ThreadsPrune,
    StateRead,
    StateWrite,
    StatePatch,
    History,
)

RUN_FIELDS: tuple[str, ...] = get_args(RunField)
