"""New assistants, and changes of assistants, as the HTTP edge gives them to the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class NewAssistant:
    """The fields of `POST /assistants`. ``config.configurable`` and ``context`` are equal."""

    assistant_id: str
    graph_id: str
    name: str
    description: str | None
    config: Mapping[str, Any]
    context: Mapping[str, Any]
    metadata: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class AssistantPatch:
    """The changes of `PATCH /assistants/{a}`; None changes nothing.

    Attributes:
        metadata: merged into the present metadata, shallowly.
        rest: the config without ``configurable``.
        values: ``configurable`` and ``context``, which are two names for the same values.
    """

    graph_id: str | None = None
    name: str | None = None
    description: str | None = None
    metadata: Mapping[str, Any] | None = None
    rest: Mapping[str, Any] | None = None
    values: Mapping[str, Any] | None = None
