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

from greenroom.core.events import Event

HEARTBEAT = b": heartbeat\r\n\r\n"
"""A comment, which every client ignores; newer ones measure the server's life by it."""

KEEP_ALIVE = b"\n"
"""What precedes a late JSON body; white space to its parser."""

_ID = re.compile(r"(\d{1,19})-(\d{1,19})", re.ASCII)
_FROM_THE_START = frozenset({"-1", "0"})


def frame(event: Event, with_id: bool, started_us: int | None = None) -> bytes:
    """One event, ready to be sent.

    Args:
        started_us: in a thread's stream an id must name its run, which it does by when that began:
            ``<microseconds>-<seq>``, of the same shape as ``<ms>-<seq>``.
    """
    name = event.name.encode()
    if with_id:
        number = event.id if started_us is None else f"{started_us}-{event.seq}"
        return b"event: %b\r\ndata: %b\r\nid: %b\r\n\r\n" % (name, event.data, number.encode())
    return b"event: %b\r\ndata: %b\r\n\r\n" % (name, event.data)


def event_frame(name: str, data: bytes, event_id: str | None = None) -> bytes:
    """An event that stands in no log, e.g. the gateway's own ``error``."""
    id_line = b"" if event_id is None else b"id: %b\r\n" % event_id.encode()
    return b"event: %b\r\ndata: %b\r\n%b\r\n" % (name.encode(), data, id_line)


def cursor_of(last_event_id: str) -> int | None:
    """The sequence number that a ``Last-Event-ID`` names; 0 is the start, None is garbage.

    ``1795329693413-0`` has the shape of ours, but no event of ours has that number: another server
    gave it, and here it would mean a second replay of everything.
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
    """Whether it has the shape ``<ms>-<seq>`` that a thread's stream insists on."""
    return _ID.fullmatch(value) is not None


def passes(event_name: str, modes: frozenset[str] | None) -> bool:
    """Whether a reader that asked for ``modes`` gets an event of this name; None asks for all.

    The requested ``messages-tuple`` is called ``messages`` on the wire, ``messages`` is called
    ``messages/partial`` and so on. A filter drops ``metadata`` too; an ``error`` reaches everyone.
    """
    if modes is None:
        return True
    mode = event_name.partition("|")[0]
    if mode == "error":
        return True
    if mode == "messages":
        return "messages-tuple" in modes
    return mode.partition("/")[0] in modes
