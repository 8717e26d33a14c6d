"""Follows runs in the background: an event loop on a separate thread."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Self, TypeVar

import httpx
from langgraph_sdk.client import LangGraphClient

from greenroom.core.errors import GreenroomError
from greenroom.notebook import display
from greenroom.notebook.background import BackgroundLoop
from greenroom.notebook.recording import Event, RunRecord, time_of

T = TypeVar("T")

FOLLOWED_MODES = ("tasks", "messages-tuple", "custom", "values")
"""The stream modes of a record: the times of nodes, tokens, progress, and the state."""

CONFLICT, NOT_FOUND = 409, 404


class Followed:
    """A run that is followed; `record` has everything that was seen of it."""

    def __init__(
        self,
        background: BackgroundLoop,
        client: LangGraphClient,
        record: RunRecord,
        create: Mapping[str, Any],
    ) -> None:
        self._background = background
        self._client = client
        self._record = record
        self._create = create
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._shown_in: int | None = None
        self._looking: list[Callable[[RunRecord], None]] = []
        self._created = threading.Event()
        self._future = asyncio.run_coroutine_threadsafe(self._follow(), background.loop)

    @property
    def record(self) -> RunRecord:
        """A snapshot of everything that was seen so far; later events do not change it."""
        return self._record

    @property
    def run_id(self) -> str:
        return self._record.run_id

    @property
    def thread_id(self) -> str:
        return self._record.thread_id

    @property
    def status(self) -> str:
        """The run's status as the API names it, or ``rejected`` or ``rolled back``."""
        return self._record.status

    @property
    def text(self) -> str:
        """The text of the run's models so far."""
        return self._record.text

    @property
    def values(self) -> Any:
        """The graph's state, as it was last seen."""
        return next(
            (event.data for event in reversed(self._record.events) if event.name == "values"), None
        )

    @property
    def error(self) -> str:
        """The run's error; empty if it has not failed."""
        errors = [event.data for event in self._record.events if event.name == "error"]
        return f"{errors[-1]['error']}: {errors[-1]['message']}" if errors else ""

    def created(self, timeout_s: float = 60.0) -> Self:
        """Waits until the server has stored the run, or has rejected it.

        Args:
            timeout_s: the longest wait in seconds.

        Raises:
            TimeoutError: the server does not answer within ``timeout_s``.
            GreenroomError: the run was not created, e.g. because there is no such graph.
        """
        if not self._created.wait(timeout_s):
            raise TimeoutError(f"The run was not created within {timeout_s:g} s.")
        if self._error is not None and not self.run_id:
            raise GreenroomError(f"The run was not created: {self._error}") from self._error
        return self

    def wait(self, timeout_s: float | None = None) -> Self:
        """Waits for the end of the run.

        Args:
            timeout_s: the longest wait in seconds.

        Raises:
            TimeoutError: the run has not ended within ``timeout_s``.
            GreenroomError: the run could not be followed.
        """
        self.wait_for(lambda record: record.over, timeout_s)
        return self

    def wait_for(
        self, is_so: Callable[[RunRecord], bool], timeout_s: float | None = None
    ) -> RunRecord:
        """Waits until a condition holds of the record: ``run.wait_for(lambda r: r.text)``.

        Raises:
            TimeoutError: the condition does not hold within ``timeout_s``.
            GreenroomError: the run could not be followed, or has ended and the condition does not
                hold.
        """
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        so: list[RunRecord] = []

        def look(record: RunRecord) -> None:
            if not so and is_so(record):
                so.append(record)

        with self._changed:
            look(self._record)
            # Asked about every record: what holds for a moment only is not missed.
            self._looking.append(look)
            try:
                while not so:
                    if self._error is not None:
                        raise GreenroomError(f"The run cannot be followed: {self._error}")
                    if self._record.over:
                        raise GreenroomError(f"The run is over ({self.status}) and it was not so.")
                    remaining_s = None if deadline_s is None else deadline_s - time.monotonic()
                    if remaining_s is not None and remaining_s <= 0:
                        raise TimeoutError(f"It was not so within {timeout_s:g} s.")
                    self._changed.wait(remaining_s)
            finally:
                self._looking.remove(look)
            return so[0]

    def wait_for_change(self, timeout_s: float = 1.0) -> None:
        """Waits until an event is seen, or until the time is over.

        Raises:
            GreenroomError: the run cannot be followed.
        """
        with self._changed:
            if self._error is not None:
                raise GreenroomError(f"The run cannot be followed: {self._error}")
            if not self._record.over:
                self._changed.wait(timeout_s)

    def cancel(self) -> Self:
        """Cancels the run, and waits until it has ended."""
        self.created()
        self._background.do(self._client.runs.cancel(self.thread_id, self.run_id, wait=True))
        return self.wait()

    def shown(self) -> None:
        """Notes that this cell has shown the run, so that its result does not show it again."""
        self._shown_in = display.cell()

    def _ipython_display_(self) -> None:
        if self._shown_in is None or self._shown_in != display.cell():
            display.Shown().draw(lambda: display.live_html(self._record), last=True)

    def __repr__(self) -> str:
        return display.live_text(self._record)

    @property
    def _path(self) -> str:
        return f"/threads/{self.thread_id}/runs/{self.run_id}"

    # --- on the background loop ------------------------------------------------------------------

    async def _follow(self) -> None:
        try:
            await self._create_and_read()
        except Exception as error:  # noqa: BLE001 - whoever waits is told what went wrong
            with self._changed:
                self._error = error
                self._changed.notify_all()
        finally:
            self._created.set()

    async def _create_and_read(self) -> None:
        runs = self._client.runs
        if not self.thread_id:
            self._note(thread_id=(await self._client.threads.create())["thread_id"])
        self._note(asked_s=time.time())
        try:
            created = await runs.create(
                self.thread_id, stream_resumable=True, stream_mode=FOLLOWED_MODES, **self._create
            )
        except httpx.HTTPStatusError as error:
            if error.response.status_code != CONFLICT:
                raise
            self._note(status="rejected", ended_s=time.time())
            return
        # The server's clock, like that of the events.
        created_s = datetime.fromisoformat(str(created["created_at"])).timestamp()
        self._note(run_id=created["run_id"], status=created["status"], asked_s=created_s)
        self._created.set()
        # "0": from the beginning, however far it is by now.
        async with asyncio.TaskGroup() as asking:
            async for part in runs.join_stream(self.thread_id, self.run_id, last_event_id="0"):
                self._see(part.event, part.data, time_of(part.id) or time.time())
                if part.event == "metadata":
                    # Beside the stream, which must not wait for it.
                    asking.create_task(self._see_timeline())
        closed_s = time.time()
        await self._see_timeline()
        status = await self._final_status()
        # A run that succeeds says something last, one that is stopped does not.
        says_so = status in ("success", "error") and self._record.events
        ended_s = self._record.events[-1].at_s if says_so else closed_s
        self._note(status=status, ended_s=ended_s)

    def _see(self, name: str, data: Any, at_s: float) -> None:
        event = Event(at_s=at_s, name=name, data=data)
        self._note(events=(*self._record.events, event), status="running")

    async def _see_timeline(self) -> None:
        """Notes the server's timeline of the run; that of a run that was rolled back stays."""
        try:
            timeline = await self._client.http.get(f"{self._path}/timeline")
        except httpx.HTTPStatusError as error:
            if error.response.status_code != NOT_FOUND:
                raise
            return
        actors = {each["attempt"]: each["actor"] for each in timeline["attempts"]}
        self._note(timeline=timeline, actors={**self._record.actors, **actors})

    async def _final_status(self) -> str:
        try:
            return (await self._client.runs.get(self.thread_id, self.run_id))["status"]
        except httpx.HTTPStatusError as error:
            if error.response.status_code != NOT_FOUND:
                raise
            return "rolled back"

    def _note(self, **changes: Any) -> None:
        with self._changed:
            self._record = dataclasses.replace(self._record, **changes)
            for look in self._looking:
                look(self._record)
            self._changed.notify_all()
