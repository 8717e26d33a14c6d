"""Lists of tasks: what a client asks for, and what it gets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from greenroom.http.a2a.views import State, View


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """A request for a list of tasks.

    Attributes:
        size: the most tasks of the page.
        offset: the tasks before the page.
        state: only tasks in this state; None for all.
        since: only tasks whose status is not older; None for all.
    """

    size: int
    offset: int = 0
    context_id: str | None = None
    state: State | None = None
    since: datetime | None = None

    def takes(self, view: View) -> bool:
        if self.state is not None and view.state is not self.state:
            return False
        if self.since is None or view.timestamp is None:
            return True
        return datetime.fromisoformat(view.timestamp) >= self.since


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of tasks.

    Attributes:
        next_offset: of the next page; None if there is none.
        total: how many tasks there are; with a filter by state or time, those before the filter.
    """

    views: list[View]
    next_offset: int | None
    total: int
