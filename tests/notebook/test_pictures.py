"""Timelines, drawings, tables and the live view, made of records alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from greenroom.notebook import display
from tests.later import Later
from tests.notebook.records import asking, crashed, plain, rejected

if TYPE_CHECKING:
    from greenroom.notebook import drawing, timeline
else:
    drawing = Later("greenroom.notebook.drawing")
    timeline = Later("greenroom.notebook.timeline")


def legend_of(picture) -> list[str]:
    return [text.get_text() for text in picture.figure.axes[0].get_legend().get_texts()]


def test_a_timeline_has_a_row_for_each_run_and_says_what_its_axis_means() -> None:
    picture = timeline.timeline([plain(), crashed(), rejected(), asking()], title="Four runs")
    (axes,) = picture.figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "plain",
        "crashed",
        "rejected",
        "asking",
    ]
    assert axes.get_xlabel() == "seconds since the first run was created"
    assert axes.get_title(loc="left") == "Four runs"
    assert legend_of(picture) == [
        "queued",
        "between nodes",
        "think",
        "act",
        "ask",
        "cut off",
        "recovering",
        "ended: success",
        "rejected",
        "waits for a human",
    ]


def test_a_timeline_names_the_actor_of_each_attempt() -> None:
    (axes,) = timeline.timeline([crashed()]).figure.axes
    assert [text.get_text() for text in axes.texts] == ["aaaa", "dddd"]


def test_a_timeline_by_actors_has_a_row_for_each_of_them() -> None:
    (axes,) = timeline.timeline([plain(), crashed()], rows="actors").figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["actor aaaa", "actor dddd"]


def test_a_timeline_of_very_many_runs_names_none_of_them() -> None:
    (axes,) = timeline.timeline([plain(f"run {n}", 100 + n / 10) for n in range(100)]).figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == []
    assert axes.get_ylabel() == "100 runs"
    assert axes.figure.get_size_inches()[1] < 16


def test_a_timeline_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no run"):
        timeline.timeline([])


def test_a_picture_is_a_png_and_the_same_one_again() -> None:
    first, second = (timeline.timeline([plain()])._repr_png_() for _ in range(2))
    assert first.startswith(b"\x89PNG")
    assert first == second


def test_a_picture_can_be_saved(tmp_path: Path) -> None:
    timeline.timeline([plain()]).save(tmp_path / "runs.svg")
    assert "<svg" in (tmp_path / "runs.svg").read_text()


def test_nodes_are_placed_by_the_longest_way_to_them() -> None:
    places = drawing.positions(
        ["__start__", "a", "b", "c", "__end__"],
        [("__start__", "a"), ("a", "b"), ("a", "c"), ("b", "c"), ("c", "a"), ("c", "__end__")],
    )
    assert {name: column for name, (column, _) in places.items()} == {
        "__start__": 0,
        "a": 1,
        "b": 2,
        "c": 3,
        "__end__": 4,
    }


def test_nodes_side_by_side_are_spread_around_the_middle() -> None:
    places = drawing.positions(["a", "b", "c"], [("a", "b"), ("a", "c")])
    assert sorted(row for _, row in (places["b"], places["c"])) == [-0.5, 0.5]


def test_every_node_is_in_a_drawing() -> None:
    picture = drawing.draw(
        {
            "nodes": [{"id": "__start__"}, {"id": "agent"}, {"id": "tools"}, {"id": "__end__"}],
            "edges": [
                {"source": "__start__", "target": "agent"},
                {"source": "agent", "target": "tools", "conditional": True},
                {"source": "tools", "target": "agent"},
                {"source": "agent", "target": "__end__", "conditional": True},
            ],
        }
    )
    (axes,) = picture.figure.axes
    names = {text.get_text() for text in axes.texts} - {""}
    assert names == {"start", "agent", "tools", "end"}


def test_a_table_of_runs_tells_what_each_took() -> None:
    rows = display.runs_table([plain(), crashed(), rejected()])
    assert rows[0] == {
        "run": "plain",
        "status": "success",
        "queued": "0.50 s",
        "took": "1.10 s",
        "nodes": "think, act",
        "attempts": 1,
        "actors": "aaaa",
    }
    assert (rows[1]["attempts"], rows[1]["actors"]) == (2, "aaaa, dddd")
    assert (rows[2]["took"], rows[2]["actors"]) == ("", "")
    assert "crashed" in repr(rows)


def test_what_is_shown_cannot_be_mistaken_for_markup() -> None:
    evil = dataclasses.replace(plain(), label="<script>")
    assert "<script>" not in display.live_html(evil)
    assert "<script>" not in display.runs_table([evil])._repr_html_()


def test_the_live_view_says_node_attempt_actor_and_tokens() -> None:
    record = crashed()
    live = dataclasses.replace(record, events=record.events[:8], ended_s=None, status="running")
    text = display.live_text(live)
    assert text.splitlines()[0] == "crashed: running, in act, attempt 2, actor dddd"
    assert "act: who" in text
    assert "attempt 2" in display.live_html(live)


def test_the_live_view_of_a_run_that_asks_shows_the_question() -> None:
    assert "asks: Refund?" in display.live_text(asking())
    assert "asks: Refund?" in display.live_html(asking())


def test_an_empty_table_says_so() -> None:
    assert "none" in display.Table([], "threads")._repr_html_()
    assert repr(display.Table([], "threads")).startswith("threads")


def test_an_unknown_name_of_greenroom_is_an_attribute_error() -> None:
    import greenroom

    with pytest.raises(AttributeError, match="nothing"):
        _ = greenroom.nothing
