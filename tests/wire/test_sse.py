"""Bytes here are those of the reference server."""

import pytest

from greenroom.core.events import Event
from greenroom.wire.sse import HEARTBEAT, cursor_of, event_frame, frames, is_event_id, passes


def test_a_frame_is_event_then_data_with_crlf():
    event = Event(1, 1795329693413, "values", b'{"count":0,"log":[]}')
    assert (
        frames([event], None, with_id=False)
        == b'event: values\r\ndata: {"count":0,"log":[]}\r\n\r\n'
    )


def test_the_id_comes_last_and_only_when_asked_for():
    event = Event(0, 1795329693413, "values", b'{"count":0,"log":[]}')
    assert frames([event], None, with_id=True) == (
        b'event: values\r\ndata: {"count":0,"log":[]}\r\nid: 1795329693413-0\r\n\r\n'
    )


def test_a_metadata_frame_has_the_length_seen_on_the_wire():
    data = b'{"run_id":"01a201ff-67fc-7490-9bfb-d1baa726966c","attempt":1}'
    assert len(frames([Event(1, 0, "metadata", data)], None, with_id=False)) == 88


def test_frames_follow_each_other_and_leave_out_what_was_not_asked_for():
    events = [
        Event(1, 5, "metadata", b"{}"),
        Event(2, 6, "values", b"1"),
        Event(3, 7, "updates|sub:1", b"2"),
        Event(4, 8, "values", b"3"),
        Event(5, 9, "error", b"4"),
    ]
    values = b"event: values\r\ndata: %d\r\n\r\n"
    error = b"event: error\r\ndata: 4\r\n\r\n"
    wanted = frozenset({"values"})
    assert frames(events, wanted, with_id=False) == values % 1 + values % 3 + error
    assert frames(events[:1], wanted, with_id=False) == b""
    assert frames(events[1:3], None, with_id=True, started_us=77) == (
        b"event: values\r\ndata: 1\r\nid: 77-2\r\n\r\n"
        b"event: updates|sub:1\r\ndata: 2\r\nid: 77-3\r\n\r\n"
    )


def test_a_heartbeat_is_a_comment_of_fifteen_bytes():
    assert HEARTBEAT == b": heartbeat\r\n\r\n"
    assert len(HEARTBEAT) == 15


def test_an_event_outside_a_log_is_framed_alike():
    assert event_frame("error", b"{}") == b"event: error\r\ndata: {}\r\n\r\n"
    assert event_frame("error", b"{}", "7-1") == b"event: error\r\ndata: {}\r\nid: 7-1\r\n\r\n"


@pytest.mark.parametrize(
    ("header", "cursor"),
    [
        ("-1", 0),
        ("0", 0),
        (" 0 ", 0),
        ("0-0", 0),
        ("1795329693413-4294967298", 4294967298),
        ("1795329693413-0", None),
        ("garbage", None),
        ("", None),
        ("12", None),
        ("1-2-3", None),
        ("-1-2", None),
        ("1795329693413-", None),
        ("\u0661-\u0662", None),
        ("9" * 40 + "-1", None),
    ],
)
def test_last_event_ids_are_read_as_cursors(header: str, cursor: int | None):
    assert cursor_of(header) == cursor


def test_only_a_pair_of_numbers_is_an_event_id():
    assert is_event_id("1795330105046-0")
    assert not is_event_id("-1")


@pytest.mark.parametrize(
    ("name", "modes", "expected"),
    [
        ("values", {"values"}, True),
        ("updates", {"values"}, False),
        ("metadata", {"values"}, False),
        ("error", {"values"}, True),
        ("messages", {"messages-tuple"}, True),
        ("messages", {"messages"}, False),
        ("messages/partial", {"messages"}, True),
        ("messages/metadata", {"messages"}, True),
        ("messages/complete", {"messages"}, True),
        ("messages/partial", {"messages-tuple"}, False),
        ("updates|child:45c2babc", {"updates"}, True),
        ("messages|inner:45c2|deep:1", {"messages-tuple"}, True),
        ("values|child:45c2", {"updates"}, False),
    ],
)
def test_a_filter_passes_what_the_requested_modes_are_called_on_the_wire(
    name: str, modes: set[str], expected: bool
):
    assert passes(name, frozenset(modes)) is expected


def test_no_filter_passes_everything():
    assert passes("metadata", None)
