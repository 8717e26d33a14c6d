"""Questions about graphs and their state, and changes of states; inspectors answer in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class StateQuestion:
    """`GET /threads/{t}/state`; ``checkpoint`` is ``{"checkpoint_id", "checkpoint_ns"}``."""

    graph_id: str
    thread_id: str
    checkpoint: Mapping[str, Any] | None = None
    subgraphs: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryQuestion:
    """`POST /threads/{t}/history`, newest first."""

    graph_id: str
    thread_id: str
    limit: int = 1
    before: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None
    checkpoint: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StateUpdate:
    """`POST /threads/{t}/state`: ``values`` is JSON of a dict, a list or null.

    Attributes:
        update_id: identifies a repeated request; the runtime sets an empty one.
    """

    graph_id: str
    thread_id: str
    values: bytes
    as_node: str | None = None
    checkpoint: Mapping[str, Any] | None = None
    update_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class SuperstepsUpdate:
    """``supersteps`` of `POST /threads`: a JSON list of ``{"updates": [...]}``.

    Attributes:
        update_id: as of `StateUpdate`.
    """

    graph_id: str
    thread_id: str
    supersteps: bytes
    update_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class SchemasQuestion:
    """`GET /assistants/{a}/schemas`."""

    graph_id: str
    config: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawQuestion:
    """`GET /assistants/{a}/graph`; ``xray`` is a depth or all."""

    graph_id: str
    xray: bool | int = False
    config: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SubgraphsQuestion:
    """`GET /assistants/{a}/subgraphs[/{ns}]`."""

    graph_id: str
    namespace: str | None = None
    recurse: bool = False
    config: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class InputQuestion:
    """`POST /threads/{t}/runs/{r}/input`: whether the state of the run's graph can take it.

    Attributes:
        said: JSON object with ``input`` and ``command``.
        config: the run's.
    """

    graph_id: str
    said: bytes
    as_node: str | None = None
    config: Mapping[str, Any] | None = None


Question = (
    StateQuestion
    | HistoryQuestion
    | SchemasQuestion
    | DrawQuestion
    | SubgraphsQuestion
    | InputQuestion
)
Update = StateUpdate | SuperstepsUpdate


@dataclass(frozen=True, kw_only=True, slots=True)
class Updated:
    """The result of a state update.

    Attributes:
        answer: JSON for the client.
        values, interrupts, has_next: the thread's state afterwards, as in `Outcome`.
    """

    answer: bytes
    values: bytes | None
    interrupts: bytes
    has_next: bool
