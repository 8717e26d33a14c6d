"""What recorded events say about a run."""

from __future__ import annotations

import dataclasses

import pytest

from greenroom.notebook.recording import (
    messages,
    record_of,
    running_nodes,
    spans,
    text_of,
    time_of,
)
from tests.notebook.records import asking, crashed, drawn, plain, rejected


def kinds(record: object) -> list[tuple[str, str, float, float, bool]]:
    return [
        (s.kind, s.name, round(s.began_s - 100, 2), round(s.ended_s - 100, 2), s.cut)
        for s in spans(record)  # type: ignore[arg-type]
    ]


def test_a_run_is_queued_until_its_first_attempt_and_then_its_nodes_run() -> None:
    assert kinds(plain()) == [
        ("queued", "", 0.0, 0.5, False),
        ("running", "", 0.5, 1.6, False),
        ("starting", "", 0.5, 0.6, False),
        ("node", "think", 0.6, 1.0, False),
        ("node", "act", 1.1, 1.5, False),
    ]


def test_what_a_crash_cut_off_and_how_long_it_took_to_recover() -> None:
    found = kinds(crashed())
    assert ("node", "act", 0.7, 0.9, True) in found
    assert ("recovering", "", 0.9, 1.5, False) in found
    assert ("node", "act", 1.6, 2.0, False) in found


def test_a_run_that_never_began_was_queued_until_its_end() -> None:
    assert kinds(rejected()) == [("queued", "", 1.0, 1.05, False)]


def test_nodes_that_are_running_are_those_that_have_not_finished() -> None:
    over = plain()
    still = dataclasses.replace(over, events=over.events[:4], ended_s=None, status="running")
    assert running_nodes(still) == ["act"]
    assert running_nodes(over) == []


def test_a_run_that_was_not_followed_has_the_same_intervals() -> None:
    followed = crashed()
    assert followed.timeline is not None
    stored = record_of(followed.timeline)
    assert kinds(stored) == kinds(followed)
    assert (stored.label, stored.attempt, stored.status) == ("12345678", 2, "success")
    assert (stored.began_s, stored.seen_until_s) == (100.1, 102.1)
    assert dict(stored.actors) == dict(followed.actors)


def test_what_still_runs_lasts_until_it_was_last_seen() -> None:
    shown = drawn(100.0, None, {1: (100.1, "a")}, (1, "act", 1, 100.2, None))
    live = dataclasses.replace(plain(), timeline=shown, ended_s=None)
    assert kinds(live)[-1] == ("node", "act", 0.2, 1.5, False)


def test_tokens_are_joined_by_message() -> None:
    assert messages(crashed().events) == [("act", "half"), ("act", "whole")]


def test_a_message_that_comes_whole_replaces_its_tokens() -> None:
    from tests.notebook.records import token

    whole = token(1.0, "all of it")
    whole.data[0]["type"] = "ai"
    assert messages([token(0.1, "all "), whole]) == [("answer", "all of it")]


def test_what_humans_said_is_not_what_models_said() -> None:
    from tests.notebook.records import token

    human = token(1.0, "hello")
    human.data[0]["type"] = "human"
    assert messages([human]) == []


def test_a_run_that_asks_says_what() -> None:
    assert asking().waits_for == ["Refund?"]


def test_the_actor_is_that_of_the_last_attempt() -> None:
    assert (crashed().attempt, crashed().actor) == (2, "run-ddddeeeeffff")
    assert (rejected().attempt, rejected().actor) == (0, "")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        ([{"type": "text", "text": "a"}, "b"], "ab"),
        ([{"type": "tool_use", "id": "1"}], ""),
        (None, ""),
    ],
)
def test_the_text_of_a_content(content: object, text: str) -> None:
    assert text_of(content) == text


@pytest.mark.parametrize(
    ("event_id", "at_s"), [("1700000000123-4294967297", 1700000000.123), (None, None), ("x", None)]
)
def test_the_time_of_an_event_is_in_its_id(event_id: str | None, at_s: float | None) -> None:
    assert time_of(event_id) == at_s
