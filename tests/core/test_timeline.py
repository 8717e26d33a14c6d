"""The life of a run in time, from what is stored."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from greenroom.core.nodes import NodeNote, unpacked
from greenroom.core.timeline import SavedStep, StoredLife, begun, timeline


def note(name: str, step: int, start_ms: int, end_ms: int | None, **more: Any) -> NodeNote:
    given = {"namespace": "", "task_id": f"t{step}", **more}
    return NodeNote(name=name, step=step, start_ms=start_ms, end_ms=end_ms, **given)


def life(**given: Any) -> StoredLife:
    whole: dict[str, Any] = {
        "record": {"run_id": "r", "status": "success"},
        "created_ms": 1_000,
        "ended_ms": 9_000,
        "history": [],
        "notes": {},
    }
    return StoredLife(**(whole | given))


def ms(text: str | None) -> int | None:
    return None if text is None else round(datetime.fromisoformat(text).timestamp() * 1000)


def drawn(shown: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (each["kind"], each["name"], each["attempt"], ms(each["start"]), ms(each["end"]))
        for each in shown["spans"]
    ]


def test_a_run_is_queued_then_it_starts_and_its_nodes_run() -> None:
    shown = timeline(
        life(
            history=[begun(1, "run-a", "h", 7, 2_000), ["end", 9_000, 1]],
            notes={1: [note("think", 1, 3_000, 5_000), note("act", 2, 5_000, 8_000)]},
        )
    )
    assert drawn(shown) == [
        ("queued", "", 0, 1_000, 2_000),
        ("running", "", 1, 2_000, 9_000),
        ("starting", "", 1, 2_000, 3_000),
        ("node", "think", 1, 3_000, 5_000),
        ("node", "act", 1, 5_000, 8_000),
    ]
    (attempt,) = shown["attempts"]
    assert (attempt["actor"], attempt["host"], attempt["pid"]) == ("run-a", "h", 7)
    assert attempt["why"] is None
    assert ms(attempt["end"]) == 9_000
    assert (shown["run_id"], shown["status"], ms(shown["ended_at"])) == ("r", "success", 9_000)


def test_what_an_attempt_was_doing_when_it_died_tells_the_next_one() -> None:
    shown = timeline(
        life(
            history=[
                begun(1, "run-a", "h", 7, 2_000),
                ["lost", 4_500, 1, "died"],
                begun(2, "run-b", "h", 8, 5_000),
                ["end", 9_000, 2],
            ],
            notes={2: [note("act", 2, 5_500, 8_000)]},
            steps=[
                SavedStep(attempt=1, namespace="", step=0, at_ms=2_000, names=["__start__"]),
                SavedStep(attempt=1, namespace="", step=1, at_ms=3_000, names=["think"]),
            ],
        )
    )
    assert [each for each in drawn(shown) if each[0] in ("node", "recovering")] == [
        ("node", "think", 1, 2_000, 3_000),
        ("node", "act", 1, 3_000, 4_500),
        ("recovering", "", 2, 4_500, 5_000),
        ("node", "act", 2, 5_500, 8_000),
    ]
    cut = [each["name"] for each in shown["spans"] if each["cut"]]
    assert cut == ["act"]
    assert [(each["why"], ms(each["end"])) for each in shown["attempts"]] == [
        ("died", 4_500),
        (None, 9_000),
    ]


def test_an_attempt_that_saved_what_the_next_one_does_not_repeat_was_between_nodes() -> None:
    shown = timeline(
        life(
            history=[begun(1, "a", None, None, 2_000), ["lost", 4_000, 1, "died"],
                     begun(2, "b", None, None, 5_000)],
            notes={2: [note("last", 7, 5_500, None)]},
            steps=[SavedStep(attempt=1, namespace="", step=1, at_ms=3_000, names=["first"])],
            ended_ms=None,
        )
    )  # fmt: skip
    assert not any(each["cut"] for each in shown["spans"])


def test_what_runs_now_has_no_end_and_what_was_cancelled_is_cut_off() -> None:
    given: dict[str, Any] = {
        "history": [begun(1, "a", "h", 7, 2_000)],
        "notes": {1: [note("act", 1, 3_000, None)]},
    }
    running = timeline(life(**given, ended_ms=None))
    assert drawn(running)[-1] == ("node", "act", 1, 3_000, None)
    assert not running["spans"][-1]["cut"]
    assert running["ended_at"] is None
    cancelled = timeline(life(**given))
    assert drawn(cancelled)[-1] == ("node", "act", 1, 3_000, 9_000)
    assert cancelled["spans"][-1]["cut"]


def test_a_run_that_never_began_was_queued_until_its_end() -> None:
    assert drawn(timeline(life())) == [("queued", "", 0, 1_000, 9_000)]
    assert drawn(timeline(life(ended_ms=None))) == [("queued", "", 0, 1_000, None)]


@pytest.mark.parametrize("ends", ["resumed", "lost", "end"])
def test_a_pause_lasts_until_it_is_resumed_or_the_attempt_is_over(ends: str) -> None:
    over = {"resumed": [], "lost": ["died"], "end": []}[ends]
    history = [begun(1, "a", "h", 7, 2_000), ["paused", 3_000, 1, ["act", "think"]]]
    shown = timeline(life(history=[*history, [ends, 4_000, 1, *over]]))
    assert ("paused", "act, think", 1, 3_000, 4_000) in drawn(shown)
    still = timeline(life(history=history, ended_ms=None))
    assert ("paused", "act, think", 1, 3_000, None) in drawn(still)


def test_a_start_that_was_stored_twice_is_one_attempt() -> None:
    history = [begun(1, "a", "h", 7, 2_000), begun(1, "a", "h", 7, 2_001)]
    assert len(timeline(life(history=history))["attempts"]) == 1


def test_notes_are_packed_and_unpacked() -> None:
    for each in (note("n", 1, 5, None), note("n", 1, 5, 6, error="E: x", namespace="a:1|b:2")):
        assert unpacked(each.packed()) == each
