"""Which values a saver keeps apart from the checkpoints that have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langgraph.checkpoint.base import ChannelVersions, Checkpoint

from greenroom.core.units import KIB
from greenroom.persistence.serializing import is_plain

INLINE_CHARACTERS = 16 * KIB
"""The longest text that is stored in each checkpoint of a thread, as LangGraph's saver does."""


def is_long(value: object) -> bool:
    """Whether a text is kept apart: each further checkpoint would contain it again."""
    return isinstance(value, str) and len(value) > INLINE_CHARACTERS


class Apart:
    """The plain values of which a saver knows that they are stored apart."""

    def __init__(self) -> None:
        self._known: set[tuple[str, str, Any]] = set()

    def missing(
        self,
        namespace: str,
        checkpoint: Checkpoint,
        new_versions: ChannelVersions,
        apart: Mapping[str, Any],
    ) -> list[tuple[str, Any]]:
        """Returns unchanged plain values that may not be stored apart: a server that sealed
        nothing, or an older one, wrote them into its checkpoints.

        Args:
            apart: the values that are now kept apart, by channel.

        Returns:
            their channels and versions.
        """
        versions = checkpoint["channel_versions"]
        found: list[tuple[str, Any]] = []
        for name, value in apart.items():
            if name not in versions or not is_plain(value):
                continue
            place = namespace, name, versions[name]
            if name not in new_versions and place not in self._known:
                found.append((name, versions[name]))
            self._known.add(place)
        return found
