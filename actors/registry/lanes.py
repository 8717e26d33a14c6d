"""The lanes of a registry: one for each thread with runs or operations in flight."""

from __future__ import annotations

from collections.abc import Iterator

from greenroom.core.admission import Lane


class Lanes:
    """The lanes by thread. A lane exists while it is not empty."""

    def __init__(self) -> None:
        self._lanes: dict[str, Lane] = {}

    def __len__(self) -> int:
        return len(self._lanes)

    def __iter__(self) -> Iterator[Lane]:
        """Iterates over a snapshot; the caller may add and remove lanes meanwhile."""
        return iter([*self._lanes.values()])

    def of(self, thread_id: str) -> Lane:
        """Returns the lane of a thread; makes one if the thread has none."""
        lane = self._lanes.get(thread_id)
        if lane is None:
            lane = self._lanes[thread_id] = Lane(thread_id)
        return lane

    def find(self, thread_id: str) -> Lane | None:
        """Returns the lane of a thread, or None."""
        return self._lanes.get(thread_id)

    def has_runs(self, thread_id: str) -> bool:
        """Returns whether a thread has runs in flight. Unlike `of`, it makes no lane."""
        lane = self._lanes.get(thread_id)
        return lane is not None and lane.has_runs

    def is_waiting(self, thread_id: str, run_id: str) -> bool:
        """Returns whether a thread waits for a slot for a run. Unlike `of`, it makes no lane."""
        lane = self._lanes.get(thread_id)
        return lane is not None and lane.is_waiting(run_id)

    def tidy(self, lane: Lane) -> None:
        """Removes a lane if it is empty."""
        if lane.is_empty and self._lanes.get(lane.thread_id) is lane:
            del self._lanes[lane.thread_id]
