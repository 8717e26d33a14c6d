"""EventLog: replay and live are one read, nothing is seen twice, no wake-up is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest

from greenroom.core.events import LIVE, READ_MAX_EVENTS, EventLog, Tally, first_seq

BOUND_S = 30.0
LARGE = 1 << 30


def log_of(*data: bytes, attempt: int = 1, max_bytes: int = LARGE) -> EventLog:
    log = EventLog(attempt, max_bytes)
    for each in data:
        log.append("values", each, 5)
    return log


def read(log: EventLog, after: int) -> list[bytes]:
    return [event.data for event in log.read(after).events]


def test_a_read_from_nought_replays_and_the_cursor_continues() -> None:
    log = log_of(b"a", b"b")
    part = log.read(0)
    assert [e.data for e in part.events] == [b"a", b"b"]
    log.append("values", b"c", 6)
    assert read(log, part.cursor) == [b"c"]
    assert read(log, part.events[0].seq) == [b"b", b"c"]


def test_a_reader_who_has_seen_everything_gets_nothing_and_keeps_its_cursor() -> None:
    log = log_of(b"a")
    cursor = log.read(0).cursor
    part = log.read(cursor)
    assert (part.events, part.cursor, part.closed) == ((), cursor, False)
    assert cursor == log.end


def test_a_cursor_from_the_future_gets_nothing() -> None:
    log = log_of(b"a")
    assert log.read(first_seq(9)).events == ()


def test_live_skips_what_is_there_and_sees_what_comes() -> None:
    log = log_of(b"old")
    part = log.read(LIVE)
    assert part.events == ()
    log.append("values", b"new", 6)
    assert read(log, part.cursor) == [b"new"]


def test_live_on_an_empty_log_sees_the_first_event() -> None:
    log = log_of()
    cursor = log.read(LIVE).cursor
    log.append("values", b"a", 1)
    assert read(log, cursor) == [b"a"]


def test_a_second_attempt_is_past_every_cursor_of_the_first() -> None:
    first, second = log_of(b"a", b"b"), log_of(b"c", attempt=2)
    assert read(second, first.end) == [b"c"]
    assert second.read(0).events[0].attempt == 2


def test_ids_are_time_and_sequence_and_differ_within_a_millisecond() -> None:
    ids = [event.id for event in log_of(b"a", b"b").read(0).events]
    assert ids == [f"5-{first_seq(1)}", f"5-{first_seq(1) + 1}"]


def test_the_oldest_go_when_the_log_outgrows_its_bound_and_the_last_one_stays() -> None:
    log = log_of(b"x" * 4, b"y" * 4, b"z" * 4, max_bytes=8)
    assert read(log, 0) == [b"y" * 4, b"z" * 4]
    assert log.size_bytes == 8
    log.append("values", b"w" * 100, 6)
    assert read(log, 0) == [b"w" * 100]


def test_a_reader_that_was_passed_by_continues_with_the_oldest_that_is_left() -> None:
    log = log_of(b"a", max_bytes=2)
    cursor = log.read(0).cursor
    for data in (b"b", b"c", b"d"):
        log.append("values", data, 6)
    assert read(log, cursor) == [b"c", b"d"]


def test_a_held_event_is_seen_at_the_close_and_counts() -> None:
    log = log_of(b"a")
    held = log.hold("error", b"oops", 6)
    assert read(log, 0) == [b"a"]
    assert log.wait(log.end, lambda: None)
    log.close()
    part = log.read(0)
    assert part.events[-1] == held
    assert (part.closed, part.cursor, log.size_bytes) == (True, held.seq, 5)


def test_several_held_events_keep_their_order_and_numbers() -> None:
    log = log_of(b"a")
    held = [log.hold("error", b"1", 6), log.hold("error", b"2", 6)]
    log.close()
    assert list(log.read(log.read(0).events[0].seq).events) == held


def test_nothing_can_be_appended_behind_a_held_event_or_a_close() -> None:
    log = log_of()
    log.hold("error", b"", 1)
    with pytest.raises(ValueError, match="closed"):
        log.append("values", b"", 1)
    log.close()
    with pytest.raises(ValueError, match="closed"):
        log.append("values", b"", 1)


def test_closing_twice_is_closing_once() -> None:
    log = log_of(b"a")
    log.hold("error", b"e", 1)
    log.close()
    log.close()
    assert read(log, 0) == [b"a", b"e"]


def test_whoever_waits_is_woken_once_by_an_append_or_the_close() -> None:
    for act in (lambda log: log.append("values", b"", 1), lambda log: log.close()):
        log = log_of()
        woken: list[int] = []
        assert log.wait(log.end, partial(woken.append, 1))
        act(log)
        if not log.closed:
            log.append("values", b"", 1)
        assert woken == [1]


def test_nobody_waits_for_what_is_there_already() -> None:
    log = log_of(b"a")
    assert not log.wait(0, lambda: None)
    log.close()
    assert not log.wait(log.end, lambda: None)


def test_a_reader_that_gives_up_leaves_nothing_behind() -> None:
    log, woken = log_of(), []

    def wake() -> None:
        woken.append(1)

    assert log.wait(log.end, wake)
    log.leave(wake)
    log.leave(wake)
    log.append("values", b"", 1)
    assert woken == []
    assert log._waiting == {}


def test_readers_beside_a_writer_see_every_event_once_and_no_wake_up_is_lost() -> None:
    """Each reader reads, registers when there is nothing, and blocks until it is woken: a lost
    wake-up would block it for good. Readers attach while the writer is at work."""
    count, readers = 3_000, 6
    log = EventLog(1, LARGE)
    seen: list[list[int]] = [[] for _ in range(readers)]

    def follow(into: list[int]) -> None:
        cursor = 0
        while True:
            part = log.read(cursor)
            into.extend(int(event.data) for event in part.events)
            cursor = part.cursor
            if part.closed:
                return
            event = threading.Event()
            if log.wait(cursor, event.set):
                assert event.wait(BOUND_S), "a wake-up was lost"

    def write() -> None:
        for number in range(count):
            log.append("values", str(number).encode(), 1)
            starts = number % (count // readers) == 0
            if starts and number // (count // readers) < readers:
                threads[number // (count // readers)].start()
        log.close()

    threads = [threading.Thread(target=follow, args=(into,), daemon=True) for into in seen]
    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    writer.join(BOUND_S)
    for thread in threads:
        thread.join(BOUND_S)
        assert not thread.is_alive()
    assert seen == [list(range(count))] * readers


def test_an_event_between_the_read_and_the_registration_is_not_missed() -> None:
    """The interleaving: reader reads (nothing), writer appends, reader registers."""
    log = log_of()
    cursor = log.read(0).cursor
    log.append("values", b"a", 1)
    wakes: list[Callable[[], None]] = []
    assert not log.wait(cursor, lambda: wakes.append(lambda: None))
    assert read(log, cursor) == [b"a"]


def test_an_event_published_while_a_live_reader_attaches_is_seen_exactly_once() -> None:
    """Replay up to the cursor and what is read from it never overlap, wherever the append falls."""
    for position in range(3):
        log, seen = log_of(b"0"), []
        steps = [lambda: log.append("values", b"1", 1)]  # noqa: B023
        if position == 0:
            steps.pop()()
        part = log.read(0)
        seen += [event.data for event in part.events]
        if position == 1:
            steps.pop()()
        registered = log.wait(part.cursor, lambda: None)
        assert registered is (position != 1)
        if position == 2:
            steps.pop()()
        seen += read(log, part.cursor)
        assert seen == [b"0", b"1"]


# --- events that are shown later ------------------------------------------------------------------


def test_what_is_not_shown_holds_back_what_comes_after_it() -> None:
    log = log_of(b"1")
    hidden = log.append("values", b"2", 1, shown=False)
    behind = log.append("updates", b"3", 1)
    assert read(log, 0) == [b"1"]
    assert [hidden.seq, behind.seq] == [first_seq(1) + 1, first_seq(1) + 2]
    log.reveal(hidden.seq)
    assert read(log, 0) == [b"1", b"2"]
    log.reveal(behind.seq)
    assert read(log, 0) == [b"1", b"2", b"3"]


def test_revealing_wakes_those_who_wait() -> None:
    log, woken = log_of(), []
    event = log.append("values", b"1", 1, shown=False)
    assert log.wait(log.end, lambda: woken.append(1))
    log.reveal(event.seq)
    assert woken == [1]


def test_a_log_that_is_closed_shows_everything_unless_its_attempt_was_superseded() -> None:
    for whole, seen in ((True, [b"1", b"2"]), (False, [])):
        log = log_of()
        log.append("values", b"1", 1, shown=False)
        log.hold("error", b"2", 1)
        log.close(whole=whole)
        assert read(log, 0) == seen


# --- bytes ----------------------------------------------------------------------------------------


def test_a_read_gives_so_many_bytes_and_is_not_closed_before_the_last_ones() -> None:
    log = log_of(b"a" * 10, b"b" * 10, b"c" * 10)
    log.close()
    part = log.read(0, max_bytes=20)
    assert [event.data[:1] for event in part.events] == [b"a", b"b"]
    assert (part.cursor, part.closed) == (part.events[-1].seq, False)
    assert not log.wait(part.cursor, lambda: None)
    rest = log.read(part.cursor, max_bytes=20)
    assert ([event.data[:1] for event in rest.events], rest.closed) == ([b"c"], True)


def test_a_single_event_is_read_whatever_its_size() -> None:
    log = log_of(b"a" * 100, b"b" * 100)
    assert read_sizes(log, max_bytes=10) == [1, 1]


def read_sizes(log: EventLog, max_bytes: int) -> list[int]:
    sizes, cursor = [], 0
    while events := (part := log.read(cursor, max_bytes)).events:
        sizes.append(len(events))
        cursor = part.cursor
    return sizes


def test_a_log_that_forgets_all_the_time_is_read_as_any_other() -> None:
    log = log_of(max_bytes=50)
    for number in range(1_000):
        log.append("values", b"%03d" % number, 1)
    assert read(log, 0) == [b"%03d" % number for number in range(984, 1_000)]
    assert read_sizes(log, max_bytes=9) == [3, 3, 3, 3, 3, 1]
    assert len(log._events) < 200


def test_hidden_and_held_events_count_and_shown_ones_make_room_for_them() -> None:
    tally = Tally()
    log = EventLog(1, 30, tally)
    for data in (b"a" * 10, b"b" * 10):
        log.append("values", data, 1)
    hidden = [log.append("values", b"h" * 10, 1, shown=False) for _ in range(3)]
    assert [data[:1] for data in read(log, 0)] == [b"b"]
    assert log.size_bytes == tally.size_bytes == 40
    log.reveal(hidden[-1].seq)
    log.append("values", b"c" * 10, 1)
    assert log.size_bytes == tally.size_bytes == 30
    log.hold("error", b"e" * 10, 1)
    log.close()
    assert [data[:1] for data in read(log, 0)] == [b"h", b"c", b"e"]


def test_the_tally_is_that_of_all_logs_until_they_are_released() -> None:
    tally = Tally()
    logs = [EventLog(1, 100, tally) for _ in range(2)]
    for log in logs:
        log.append("values", b"0" * 30, 1)
        log.append("values", b"0" * 30, 1)
    logs[0].shrink(40)
    assert tally.size_bytes == 90
    logs[1].append("values", b"0" * 30, 1, shown=False)
    logs[1].close(whole=False)
    assert tally.size_bytes == 90
    logs[0].release()
    assert tally.size_bytes == 60


def test_a_burst_wakes_its_readers_once_the_writer_is_done_and_meanwhile_now_and_then() -> None:
    later: list[Callable[[], None]] = []
    log = EventLog(1, LARGE, soon=later.append)
    woken: list[int] = []

    def listen() -> None:
        assert log.wait(log.end, lambda: woken.append(log.end))

    listen()
    log.append("custom", b"0", 1000)
    assert len(woken) == 1  # at once: nothing was told shortly before
    listen()
    for number in range(1, 6):
        log.append("custom", b"%d" % number, 1001)
    assert len(woken) == 1
    assert len(later) == 1
    log.append("custom", b"6", 1007)
    assert len(woken) == 2  # the writer has been busy for too long
    later.pop()()
    assert len(woken) == 2
    cursor = log.end
    listen()
    log.append("custom", b"7", 1008)
    assert len(woken) == 2
    later.pop()()
    assert woken[2] == cursor + 1
    assert [event.data for event in log.read(0).events] == [b"%d" % n for n in range(8)]


def test_a_quiet_log_wakes_its_readers_at_every_event() -> None:
    later: list[Callable[[], None]] = []
    log = EventLog(1, LARGE, soon=later.append)
    woken: list[int] = []
    for at_ms in (1000, 1020, 1040, 900):  # the clock may be set back
        assert log.wait(log.end, lambda: woken.append(log.end))
        log.append("messages", b"token", at_ms)
    assert len(woken) == 4
    assert not later


def test_a_read_has_a_bounded_number_of_events_and_loses_none() -> None:
    log = log_of(*[b"%d" % number for number in range(20_000)])
    log.close()
    seen: list[bytes] = []
    after, closed = 0, False
    while not closed:
        part = log.read(after)
        assert len(part.events) <= READ_MAX_EVENTS
        seen += [event.data for event in part.events]
        after, closed = part.cursor, part.closed
    assert seen == [b"%d" % number for number in range(20_000)]
