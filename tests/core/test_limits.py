"""Sliding windows: what a caller may use, and when it may again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.core.limits import Rate, Window

BEGIN_S = 1_000_000 * 60.0
"""The begin of a minute."""


@pytest.mark.parametrize(
    ("text", "amount", "period_s"),
    [("1/second", 1, 1), ("600/minute", 600, 60), (" 5/hour ", 5, 3600), ("7/day", 7, 86_400)],
)
def test_a_rate_is_a_number_and_a_unit(text: str, amount: int, period_s: int) -> None:
    assert Rate.parse(text) == Rate(amount, period_s)


@pytest.mark.parametrize("text", ["", "5", "0/second", "-1/second", "5/fortnight", "5 / second"])
def test_what_a_rate_must_be_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="such as 100/minute"):
        Rate.parse(text)


def test_a_period_before_counts_by_its_part_of_the_last_period() -> None:
    window = Window(Rate(10, 60))
    window.add("a", 10, BEGIN_S + 30)
    assert window.used("a", BEGIN_S + 59) == 10
    assert window.used("a", BEGIN_S + 60 + 15) == 7.5
    assert window.remaining("a", BEGIN_S + 60 + 15) == 2
    assert window.used("a", BEGIN_S + 120) == 0
    assert window.used("b", BEGIN_S + 30) == 0


def test_the_boundary_of_periods_does_not_give_twice_the_rate() -> None:
    window = Window(Rate(10, 60))
    window.add("a", 10, BEGIN_S + 59.9)
    assert window.wait_s("a", 1, BEGIN_S + 60.1) == pytest.approx(6 - 0.1)


amounts = st.lists(st.tuples(st.integers(1, 40), st.floats(0, 119)), max_size=8)


@given(amounts, st.integers(1, 30), st.floats(60, 119))
def test_after_the_wait_the_amount_fits_and_not_before(
    added: list[tuple[int, float]], wanted: int, at_s: float
) -> None:
    window = Window(Rate(20, 60))
    now_s = BEGIN_S + at_s
    for amount, when_s in added:
        if when_s <= at_s:
            window.add("a", amount, BEGIN_S + when_s)
    room = 20 - min(wanted, 20)
    wait_s = window.wait_s("a", wanted, now_s)
    assert window.used("a", now_s + wait_s + 1e-6) <= room + 1e-3
    if wait_s > 0.01:
        assert window.used("a", now_s + wait_s - 0.01) > room


def test_what_others_have_counted_counts_until_they_say_otherwise() -> None:
    window = Window(Rate(10, 60))
    period = int(BEGIN_S // 60)
    window.add("a", 4, BEGIN_S)
    window.hear({("a", period): 5, ("b", period): 10})
    assert window.remaining("a", BEGIN_S) == 1
    assert window.remaining("b", BEGIN_S) == 0
    window.hear({})
    assert window.remaining("a", BEGIN_S) == 6
    assert window.own(BEGIN_S) == {("a", period): 4}


def test_callers_of_long_ago_are_forgotten() -> None:
    window = Window(Rate(10, 60))
    window.add("a", 4, BEGIN_S)
    assert window.own(BEGIN_S + 60)
    assert window.own(BEGIN_S + 120) == {}
    assert not window._callers
