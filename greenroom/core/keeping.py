"""The rules for keeping values of states: ``checkpointer.serde`` of `langgraph.json`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Allowed = frozenset[tuple[str, ...]] | Literal[True]
"""Types by module and name; True for all types, an empty set for those that LangGraph knows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Keeping:
    """The rules for keeping values; None where nothing is said.

    Attributes:
        types: the types that msgpack may read back, beside those that LangGraph knows.
        json_types: the types that a checkpoint in LangGraph's older JSON format may have.
        pickle: whether a value that msgpack does not give back is pickled.
    """

    types: Allowed | None = None
    json_types: Allowed | None = None
    pickle: bool | None = None
