"""Server-Sent Events as the Platform frames them (platform API, section 3).

    event: values\\r\\n
    data: {"count":0}\\r\\n
    id: 1795329693413-4294967296\\r\\n     resumable streams only, and every thread's stream
    \\r\\n

Lines end in CRLF, the fields come in this order, the data is one line of compact JSON, and an idle
stream carries a comment. Standard library only: run actors frame their events with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from greenroom.core.events import Event
from greenroom.core.thread_log import MARK

HEARTBEAT = b": heartbeat\r\n\r\n"
"""A comment, which clients ignore; newer clients detect a dead server by its absence."""

KEEP_ALIVE = b"\n"
"""Bytes sent before a late JSON body; a JSON parser skips them as white space."""

_ID = re.compile(r"(\d{1,19})-(\d{1,19})", re.ASCII)
_FROM_THE_START = frozenset({"-1", "0"})


def frames(
    events: Iterable[Event],
    modes: frozenset[str] | None,
    with_id: bool,
    started_us: int | None = None,
) -> bytes:
    """Encodes the events that a reader gets as SSE frames, one behind the other.

    Args:
        modes: as in `passes`.
        with_id: add an ``id:`` line to each.
        started_us: the begin of the run in Unix microseconds, for a thread's stream: the events'
            ids identify the run as ``<microseconds>-<seq>``, of the same shape as ``<ms>-<seq>``.
    """
    begins: dict[str, bytes | None] = {}
    parts: list[bytes] = []
    for event in events:
        name = event.name
        if name not in begins:
            is_wanted = passes(name, modes)
            begins[name] = b"event: %b\r\ndata: " % name.encode() if is_wanted else None
        begin = begins[name]
        if begin is None:
            continue
        if with_id:
            number = event.id if started_us is None else f"{started_us}-{event.seq}"
            parts += (begin, event.data, b"\r\nid: ", number.encode(), b"\r\n\r\n")
        else:
            parts += (begin, event.data, b"\r\n\r\n")
    return b"".join(parts)


def event_frame(name: str, data: bytes, event_id: str | None = None) -> bytes:
    """Encodes an event that is in no event log, e.g. the gateway's own ``error``."""
    id_line = b"" if event_id is None else b"id: %b\r\n" % event_id.encode()
    return b"event: %b\r\ndata: %b\r\n%b\r\n" % (name.encode(), data, id_line)


def cursor_of(last_event_id: str) -> int | None:
    """Returns the sequence number in a ``Last-Event-ID``; 0 for the start, None if it is invalid.

    ``1795329693413-0`` has a valid shape, but no event here has that number: the id is another
    server's, and would cause a second replay of all events.
    """
    value = last_event_id.strip()
    if value in _FROM_THE_START:
        return 0
    match = _ID.fullmatch(value)
    if match is None:
        return None
    number = int(match[2])
    return number if number > 0 or value == "0-0" else None


def is_event_id(value: str) -> bool:
    """Returns whether an id has the shape ``<ms>-<seq>`` that a thread's stream requires."""
    return _ID.fullmatch(value) is not None


def passes(event_name: str, modes: frozenset[str] | None) -> bool:
    """Returns whether a reader of a run that requested ``modes`` gets an event of this name.

    Events that only the thread's log has are for no reader of a run.

    The events of the mode ``messages-tuple`` are named ``messages``, those of ``messages`` are
    named ``messages/partial`` and so on. A filter drops ``metadata`` too, and passes each
    ``error``.

    Args:
        modes: the requested stream modes; None passes all events.
    """
    if event_name.startswith(MARK):
        return False
    if modes is None:
        return True
    mode = event_name.partition("|")[0]
    if mode == "error":
        return True
    if mode == "messages":
        return "messages-tuple" in modes
    return mode.partition("/")[0] in modes
