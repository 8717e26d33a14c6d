"""What one says to a run that is executed, and how one looks into it."""

from __future__ import annotations

import time
from typing import Any

from greenroom.core.errors import GreenroomError
from greenroom.notebook.following import Followed

LOOK_S = 0.05


class Run(Followed):
    """A run that a room follows, and that can be talked to.

    Made by `Room.start`. In a notebook its display shows its progress.
    """

    def say(self, input: Any, *, as_node: str | None = None, if_over: str = "reject") -> str:
        """Says something to the run while it is executed; it takes it at its next superstep.

        Args:
            input: a state update, e.g. ``{"messages": [...]}``.
            as_node: the node in whose name the state is updated.
            if_over: ``reject``, ``enqueue`` or ``drop``: what becomes of it if the run is over.

        Returns:
            the id of what was said, which `said` and the run's ``input`` events name.

        Raises:
            httpx.HTTPStatusError: the run is over (409), or its state cannot take this (422).
        """
        self.created()
        body = {"input": input, "as_node": as_node, "if_over": if_over}
        answer = self._background.do(self._client.http.post(self._inputs, json=body))
        return answer["input_id"]

    def said(self) -> list[dict[str, Any]]:
        """Returns what was said to the run, in order, and what became of it."""
        self.created()
        return self._background.do(self._client.http.get(self._inputs))

    @property
    def _inputs(self) -> str:
        return f"{self._path}/input"

    # --- attaching -------------------------------------------------------------------------------

    def timeline(self) -> dict[str, Any]:
        """Returns the life of the run in time, as the server has stored it."""
        return self._get("timeline")

    def stack(self) -> dict[str, Any]:
        """Returns what the run's process does now: nodes, threads, asyncio tasks.

        Raises:
            httpx.HTTPStatusError: no process executes the run (409).
        """
        return self._get("stack")

    def pause(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """Has the run wait at the end of its superstep; returns when it waits.

        Args:
            timeout_s: the longest wait in seconds. The pause stays wanted after it.

        Returns:
            ``since`` and ``next``, the nodes of its next superstep.

        Raises:
            httpx.HTTPStatusError: the run is over (409).
            TimeoutError: its superstep has not ended in time.
            GreenroomError: the run has ended meanwhile.
        """
        self._post("pause")
        return self._waits(timeout_s)

    def step(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """Has a paused run execute one superstep; returns when it waits again, as `pause`.

        Raises:
            httpx.HTTPStatusError: the run is not paused (409).
        """
        self._post("step")
        return self._waits(timeout_s)

    def resume(self) -> None:
        """Has a paused run go on.

        Raises:
            httpx.HTTPStatusError: the run is not paused (409).
        """
        self._post("resume")

    def fork(self, checkpoint_id: str | None = None, input: Any = None) -> dict[str, Any]:
        """Makes a run that goes on from a checkpoint of the thread, when this one is over.

        Args:
            checkpoint_id: None for the newest one there is.
            input: what the new run is given; None goes on.

        Returns:
            ``run_id`` and ``thread_id``.

        Raises:
            GreenroomError: there is no such checkpoint.
        """
        self.created()
        if checkpoint_id is None:
            state = self._background.do(self._client.threads.get_state(self.thread_id))
            checkpoint: Any = state["checkpoint"] or {}
            checkpoint_id = checkpoint.get("checkpoint_id") or ""
        params = {"checkpoint_id": checkpoint_id, "input": input}
        body = {"id": 1, "method": "state.fork", "params": params}
        path = f"/threads/{self.thread_id}/commands"
        answer = self._background.do(self._client.http.post(path, json=body))
        if answer["type"] == "error":
            raise GreenroomError(answer["message"])
        return answer["result"]

    def _get(self, what: str) -> dict[str, Any]:
        self.created()
        return self._background.do(self._client.http.get(f"{self._path}/{what}"))

    def _post(self, what: str) -> None:
        self.created()
        self._background.do(self._client.http.post(f"{self._path}/{what}", json={}))

    def _waits(self, timeout_s: float) -> dict[str, Any]:
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            run: Any = self._background.do(self._client.runs.get(self.thread_id, self.run_id))
            if run["status"] not in ("pending", "running"):
                raise GreenroomError(f"The run has ended meanwhile ({run['status']}).")
            if (run.get("paused") or {}).get("since"):
                return run["paused"]
            time.sleep(LOOK_S)
        raise TimeoutError(f"The run did not wait within {timeout_s:g} s.")
