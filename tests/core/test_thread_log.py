"""Positions in a thread's log, and what a client of it wants."""

from __future__ import annotations

import json
from typing import Any

import pytest

from greenroom.core.errors import BadRequest
from greenroom.core.events import Event, first_seq
from greenroom.core.runs import RunStatus
from greenroom.core.thread_log import (
    END,
    MAX_POSITION,
    LogEvent,
    end_of,
    event_name,
    filter_of,
    is_logged,
    place_of,
    position,
    since_of,
)


def event(name: str, seq: int = first_seq(1) + 5, number: int = 1) -> LogEvent:
    return LogEvent(number=number, run_id="r", event=Event(seq, 1, name, b"{}"))


def test_positions_grow_over_events_attempts_and_runs() -> None:
    places = [(n, first_seq(a) + i) for n in (1, 2, 9) for a in (1, 2, 7) for i in (0, 1, 4000)]
    found = [position(*place) for place in places]
    assert found == sorted(set(found))
    assert [place_of(each) for each in found] == places
    assert found[-1] < MAX_POSITION


def test_the_first_position_of_a_run_is_before_all_of_its_events() -> None:
    assert place_of(3 << 32) == (3, 0)
    assert place_of(0) == (0, 0)


@pytest.mark.parametrize(
    ("name", "method", "channel", "namespace", "node"),
    [
        ("values", "values", "values", (), ""),
        ("values|a:1|b:2", "values", "values", ("a:1", "b:2"), ""),
        ("custom", "custom", "custom", (), ""),
        (event_name("custom", ["a:1"], detail="x"), "custom", "custom:x", ("a:1",), ""),
        (event_name("messages", [], detail="node"), "messages", "messages", (), "node"),
        (event_name("input.requested", ["a:1"]), "input.requested", "input", ("a:1",), ""),
        (END, "lifecycle", "lifecycle", (), ""),
    ],
)
def test_a_name_says_what_a_filter_looks_at(
    name: str, method: str, channel: str, namespace: tuple[str, ...], node: str
) -> None:
    found = event(name)
    assert (found.method, found.channel, found.namespace, found.node) == (
        method,
        channel,
        namespace,
        node,
    )
    assert is_logged(name)


@pytest.mark.parametrize("name", ["metadata", "error", "messages", "messages/partial", "debug"])
def test_what_only_clients_of_a_run_get_is_not_in_the_log(name: str) -> None:
    assert not is_logged(name)


def test_the_end_of_a_run_has_one_id_whoever_says_it() -> None:
    assert event(END, first_seq(1) + 9).id == event(END, first_seq(2)).id
    assert event("values", 7).id != event("values", 8).id


@pytest.mark.parametrize(
    ("given", "namespace", "passes"),
    [
        ({}, (), True),
        ({}, ("a:1", "b:2"), True),
        ({"namespaces": []}, ("a:1",), True),
        ({"namespaces": [[]], "depth": 1}, (), True),
        ({"namespaces": [[]], "depth": 1}, ("a:1",), True),
        ({"namespaces": [[]], "depth": 1}, ("a:1", "b:2"), False),
        ({"namespaces": [["a"]]}, ("a:1", "b:2"), True),
        ({"namespaces": [["a:1"]]}, ("a:1",), True),
        ({"namespaces": [["a:2"]]}, ("a:1",), False),
        ({"namespaces": [["a", "b"]]}, ("a:1",), False),
        ({"namespaces": [["x"], ["a"]], "depth": 0}, ("a:1",), True),
        ({"namespaces": [["a"]], "depth": 0}, ("a:1", "b:2"), False),
    ],
)
def test_namespaces_are_matched_by_prefix_and_depth(
    given: dict[str, Any], namespace: tuple[str, ...], passes: bool
) -> None:
    wanted = filter_of({"channels": ["values"], **given})
    assert wanted.passes(event("|".join(("values", *namespace)))) is passes


@pytest.mark.parametrize(
    ("channels", "name", "passes"),
    [
        (["values"], "updates", False),
        (["custom"], event_name("custom", detail="x"), True),
        (["custom:x"], event_name("custom", detail="x"), True),
        (["custom:y"], event_name("custom", detail="x"), False),
        (["custom:x"], "custom", False),
        (["input"], event_name("input.answered"), True),
        (["lifecycle"], END, True),
    ],
)
def test_channels_are_matched_by_name(channels: list[str], name: str, passes: bool) -> None:
    assert filter_of({"channels": channels}).passes(event(name)) is passes


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "channels is required"),
        ({"channels": []}, "channels is required"),
        ({"channels": "values"}, "channels is required"),
        ({"channels": ["values", "nope"]}, "unsupported entries: nope"),
        ({"channels": ["custom:"]}, "unsupported entries: custom:"),
        ({"channels": [1]}, "unsupported entries: 1"),
        ({"channels": ["values"], "namespaces": "x"}, "namespaces"),
        ({"channels": ["values"], "namespaces": ["x"]}, "namespaces"),
        ({"channels": ["values"], "depth": -1}, "depth"),
        ({"channels": ["values"], "depth": True}, "depth"),
    ],
)
def test_a_wrong_filter_is_refused_with_a_sentence(given: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        filter_of(given)


@pytest.mark.parametrize("since", [-1, "1", 1.5, True, 2**60])
def test_a_position_that_is_none_is_refused(since: Any) -> None:
    with pytest.raises(BadRequest, match="since"):
        since_of({"since": since})


@pytest.mark.parametrize("status", [each for each in RunStatus if each.is_terminal])
@pytest.mark.parametrize("stopped", [False, True])
def test_every_end_of_a_run_is_a_lifecycle(status: RunStatus, stopped: bool) -> None:
    error = json.dumps({"error": "ValueError", "message": "boom"}).encode()
    failed = status in (RunStatus.ERROR, RunStatus.TIMEOUT)
    event, message = end_of(status, error if failed else None, stopped=stopped)
    assert event in ("completed", "failed", "interrupted")
    assert message == ("boom" if failed else "")
