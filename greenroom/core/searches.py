"""The conditions of searches in the records, and a page of what they find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """One page of a search's results; ``has_more`` tells whether another page follows."""

    items: list[dict[str, Any]]
    has_more: bool


DELIVERY_STATUSES = ("pending", "delivered", "failed")


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreadFilter:
    """The conditions of `POST /threads/search` and ``/count``; None selects all.

    Attributes:
        uuids_only: leaves out threads with other ids, which the mount cannot address.
    """

    metadata: Mapping[str, Any] | None = None
    values: Mapping[str, Any] | None = None
    status: str | None = None
    ids: Sequence[str] | None = None
    uuids_only: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class AssistantFilter:
    """The conditions of `POST /assistants/search` and ``/count``; None selects all."""

    metadata: Mapping[str, Any] | None = None
    graph_id: str | None = None
    name: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CronFilter:
    """The conditions of `POST /runs/crons/search` and ``/count``; None selects all."""

    assistant_id: str | None = None
    thread_id: str | None = None
    enabled: bool | None = None
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFilter:
    """The conditions of `POST /runs/search` and ``/count``; None selects all."""

    thread_id: str | None = None
    assistant_id: str | None = None
    status: str | None = None
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryFilter:
    """The conditions of `GET /webhooks/deliveries`; None selects all.

    Attributes:
        metadata: of the thread; of the run where the thread is gone.
    """

    status: str | None = None
    thread_id: str | None = None
    metadata: Mapping[str, Any] | None = None
