"""A response as clients see it: made of the record of its run, and of what the run has said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from greenroom.core.errors import GreenroomError, NotFound
from greenroom.core.ports import JsonObject
from greenroom.core.runs import Outcome, RunStatus
from greenroom.core.scopes import SERVER
from greenroom.http.creation import plain
from greenroom.http.edge import Edge
from greenroom.http.gates import found_run, reads_thread
from greenroom.http.openai import states
from greenroom.http.openai.errors import RunCancelled, failure_of
from greenroom.http.openai.items import items
from greenroom.http.openai.outputs import Said
from greenroom.http.openai.served import seconds_of
from greenroom.http.openai.turns import OF_OPENAI
from greenroom.http.outcomes import shown_output
from greenroom.http.parameters import is_uuid
from greenroom.wire.encoding import is_list, is_object

RESPONSE = "response"

_PREFIX = "resp_"
_STATUSES = {
    RunStatus.PENDING: "queued",
    RunStatus.RUNNING: "in_progress",
    RunStatus.SUCCESS: "completed",
    RunStatus.ERROR: "failed",
    RunStatus.TIMEOUT: "failed",
    RunStatus.INTERRUPTED: "cancelled",
}
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_NOTHING = Said(messages=[], interrupts=[])


def response_id(run_id: str) -> str:
    return f"{_PREFIX}{run_id.replace('-', '')}"


def run_id_of(value: str) -> str:
    """Returns the id of a response's run; also takes that itself.

    Raises:
        NotFound: no response can have the id.
    """
    digits = value.removeprefix(_PREFIX).replace("-", "")
    parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    run_id = "-".join(parts)
    if not is_uuid(run_id):
        raise unknown_response(value)
    return run_id.lower()


def unknown_response(value: str) -> NotFound:
    return NotFound(f"There is no response '{value[:255]}'.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """The record of a response's run.

    Attributes:
        own: what the run remembers of the request.
    """

    run: JsonObject
    own: JsonObject

    @classmethod
    def of(cls, run: JsonObject) -> Record:
        own: Any = plain(run.get("metadata")).get(OF_OPENAI)
        return cls(run=run, own=own if is_object(own) else {})

    @property
    def run_id(self) -> str:
        return str(self.run["run_id"])

    @property
    def thread_id(self) -> str:
        return str(self.run["thread_id"])

    @property
    def status(self) -> RunStatus:
        return RunStatus(self.run["status"])

    def shown(
        self, *, status: RunStatus, said: Said = _NOTHING, error: GreenroomError | None = None
    ) -> JsonObject:
        """Returns the response's JSON.

        Args:
            said: what the run has said.
            error: of a failed run.
        """
        kwargs = plain(self.run.get("kwargs"))
        config = plain(kwargs.get("config"))
        given = plain(config.get("configurable"))
        usage = said.usage()
        incomplete = _INCOMPLETE.get(said.incomplete() or "") if status == "success" else None
        failure = {"code": "server_error", "message": error.message} if error is not None else None
        conversation = {"id": f"conv_{self.thread_id}"} if self.own.get("conversation") else None
        ended = seconds_of(self.run["updated_at"]) if status.is_terminal else None
        return {
            "id": response_id(self.run_id),
            "object": RESPONSE,
            "created_at": seconds_of(self.run["created_at"]),
            "completed_at": ended if status == RunStatus.SUCCESS else None,
            "status": "incomplete" if incomplete is not None else _STATUSES[status],
            "background": bool(self.own.get("background")),
            "error": failure,
            "incomplete_details": {"reason": incomplete} if incomplete is not None else None,
            "instructions": _instructions(kwargs) if self.own.get("instructed") else None,
            "max_output_tokens": given.get("max_tokens"),
            "model": self.own.get("model"),
            "output": items(said),
            "parallel_tool_calls": bool(given.get("parallel_tool_calls", True)),
            "previous_response_id": self.own.get("previous_response_id"),
            "conversation": conversation,
            "reasoning": given.get("reasoning"),
            "store": not self.own.get("temporary"),
            "temperature": given.get("temperature"),
            "text": {"format": given.get("response_format") or {"type": "text"}},
            "tool_choice": given.get("tool_choice") or "auto",
            "tools": given.get("tools") or [],
            "top_p": given.get("top_p"),
            "truncation": "disabled",
            "usage": usage.of_response() if usage is not None else None,
            "user": given.get("user"),
            "metadata": self._metadata(),
        }

    def _metadata(self) -> JsonObject:
        own = plain(self.own.get("metadata"))
        return own if self.own.get("temporary") else {**own, "thread_id": self.thread_id}


def _instructions(kwargs: JsonObject) -> str | None:
    given = plain(kwargs.get("input")).get("messages")
    first: Any = given[0] if is_list(given) and given else None
    return first.get("content") if is_object(first) else None


async def found(edge: Edge, value: str) -> Record:
    """Returns the record of a response.

    Raises:
        NotFound: there is none with this id.
    """
    try:
        run, _ = await found_run(edge, run_id_of(value))
    except NotFound:
        raise unknown_response(value) from None
    record = Record.of(run)
    if record.own.get("object") != RESPONSE:
        raise unknown_response(value)
    return record


async def reread(edge: Edge, record: Record) -> Record:
    """Returns the record as it is now; as it was, for a run that is gone."""
    # Its caller has been shown it before.
    run = await edge.records.get_run(record.thread_id, record.run_id, scope=SERVER)
    return Record.of(run) if run is not None else record


async def current(edge: Edge, record: Record) -> JsonObject:
    """Returns a response as it is now.

    Raises:
        NotFound: it was deleted meanwhile.
    """
    if not record.status.is_terminal:
        return record.shown(status=record.status)
    end = await edge.runtime.outcome(record.run_id, None, over=True)
    scope = await reads_thread(edge, record.thread_id)
    runs = await edge.records.list_runs(
        record.thread_id, limit=1, offset=0, status=None, scope=scope
    )
    if not runs or str(runs[0]["run_id"]) == record.run_id:
        return ended(record, end)
    graph_id = plain(record.run.get("metadata")).get("graph_id")
    state = await states.left_by(edge, str(graph_id), record.thread_id, record.run_id)
    return ended(record, end, state or states.State())


def ended(record: Record, end: Outcome, state: states.State | None = None) -> JsonObject:
    """Returns a response whose run is over.

    Args:
        state: what the run has left; None: as its outcome shows it.
    """
    failure = failure_of(end)
    if state is None:
        state = states.of_output(shown_output(end))
    return record.shown(
        status=end.status,
        said=Said.by(state, record.run_id, record.own.get("after")),
        error=None if isinstance(failure, RunCancelled) else failure,
    )
