"""The two mounts of the API, and their differences (platform API, section 0).

A field that a client gives means the same on both. The table shows the defaults and answers in
which the Platform and the gateway that this project follows differ.

                            ``/`` (Platform)        ``/api`` (gateway)
    a thread that is taken  enqueue                 reject
    a client that leaves    the run continues       the run is cancelled
    an unknown thread       404                     it is created
    ``assistant_id``        required                the only graph, or the default one
    thread ids              UUIDs                   any printable string up to 255 characters
    list of runs            the newest 10           all of them
    ``GET .../join``        JSON, blocks            an SSE stream
    a cancel that waited    200 ``{}``              204
    nothing to cancel       404                     404 unknown, 409 over
    a failed run's ``wait`` ``{"__error__"}``       the state with it, or ``{"status", "error"}``
    ``stream_resumable``    false                   true; a joiner gets all events
    a graph's name          422                     is its assistant, in paths too
    an unknown thread's     404                     empty
    state, history, runs
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from greenroom.core.runs import MultitaskStrategy

OnDisconnect = Literal["cancel", "continue"]
IfNotExists = Literal["create", "reject"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """The conventions of one mount.

    Attributes:
        prefix: the prefix of paths, ``Location`` and ``Content-Location``.
        assistant_optional: ``assistant_id`` may be left out.
        uuid_thread_ids: a thread id must be a UUID.
        runs_listed: the default limit of a list of runs; None for all.
        join_streams: ``GET .../join`` answers SSE unless ``Accept`` names JSON.
        cancel_answers_json: a cancel that waited answers 200 ``{}``, else 204.
        over_is_conflict: cancelling a run that is over answers 409, else 404.
        wait_shows_state: ``wait`` of a failed run shows the state that the run left.
        resumable: the default of ``stream_resumable``.
        joins_from_first: a joiner without ``Last-Event-ID`` also gets the earlier events.
        assistants_by_name: a path may name an assistant by its graph.
        unknown_thread_is_empty: an unknown thread is read as a thread without any run.
    """

    prefix: str
    multitask_strategy: MultitaskStrategy
    on_disconnect: OnDisconnect
    if_not_exists: IfNotExists
    assistant_optional: bool
    uuid_thread_ids: bool
    runs_listed: int | None
    join_streams: bool
    cancel_answers_json: bool
    over_is_conflict: bool
    wait_shows_state: bool
    resumable: bool
    joins_from_first: bool
    assistants_by_name: bool
    unknown_thread_is_empty: bool


PLATFORM = Dialect(
    prefix="",
    multitask_strategy="enqueue",
    on_disconnect="continue",
    if_not_exists="reject",
    assistant_optional=False,
    uuid_thread_ids=True,
    runs_listed=10,
    join_streams=False,
    cancel_answers_json=True,
    over_is_conflict=False,
    wait_shows_state=False,
    resumable=False,
    joins_from_first=False,
    assistants_by_name=False,
    unknown_thread_is_empty=False,
)

GATEWAY = Dialect(
    prefix="/api",
    multitask_strategy="reject",
    on_disconnect="cancel",
    if_not_exists="create",
    assistant_optional=True,
    uuid_thread_ids=False,
    runs_listed=None,
    join_streams=True,
    cancel_answers_json=False,
    over_is_conflict=True,
    wait_shows_state=True,
    resumable=True,
    joins_from_first=True,
    assistants_by_name=True,
    unknown_thread_is_empty=True,
)

DIALECTS = (PLATFORM, GATEWAY)
