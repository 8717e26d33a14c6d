"""Models of the request bodies of assistants; `greenroom.wire.models` has what they share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from greenroom.wire.models import Body, Limit, Name, Object, Offset, RunConfig

AssistantField = Literal[
    "assistant_id",
    "graph_id",
    "name",
    "description",
    "config",
    "context",
    "created_at",
    "updated_at",
    "metadata",
    "version",
]


class AssistantCreate(Body):
    graph_id: Name
    assistant_id: str | None = None
    name: str | None = None
    description: str | None = None
    config: RunConfig | None = None
    context: Object | None = None
    metadata: Object | None = None
    if_exists: Literal["raise", "do_nothing"] | None = None


class AssistantChange(Body):
    """The body of `PATCH /assistants/{a}`; every one makes a new version."""

    graph_id: Name | None = None
    name: str | None = None
    description: str | None = None
    config: RunConfig | None = None
    context: Object | None = None
    metadata: Object | None = None


class AssistantVersions(Body):
    metadata: Object | None = None
    limit: Limit | None = None
    offset: Offset | None = None


class AssistantLatest(Body):
    """The version that an assistant is to show."""

    version: Annotated[int, Field(ge=-(2**31), le=2**31 - 1)] | None = None


class AssistantCount(Body):
    metadata: Object | None = None
    graph_id: str | None = None
    name: str | None = None


class AssistantSearch(AssistantCount):
    limit: Limit | None = None
    offset: Offset | None = None
    sort_by: (
        Literal["assistant_id", "graph_id", "name", "created_at", "updated_at", "version"] | None
    ) = None
    sort_order: Literal["asc", "desc", "ASC", "DESC"] | None = None
    select: list[AssistantField] | None = None


ASSISTANT_BODIES: tuple[type[Body], ...] = (
    AssistantCreate,
    AssistantChange,
    AssistantVersions,
    AssistantLatest,
    AssistantCount,
    AssistantSearch,
)
