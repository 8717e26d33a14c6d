"""What has happened lately: counted by rows, and forgotten after ten minutes."""

from __future__ import annotations

from actors.registry.pulse import DEATHS_KEPT, ROW_S, ROWS, Pulse


class Time:
    now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


def test_what_happens_within_ten_seconds_is_one_row() -> None:
    time = Time()
    pulse = Pulse(time)
    pulse.started(0.5)
    pulse.started(None)
    time.now_s += ROW_S - 1
    pulse.ended(failed=False)
    pulse.ended(failed=True)
    time.now_s += 1
    pulse.started(1.5)
    pulse.first_event(0.1)
    shown = pulse.shown()
    assert shown["rows"] == [(1_000_000, 2, 2, 1), (1_000_010, 1, 0, 0)]
    assert shown["queued_s"] == [0.5, 1.5]
    assert shown["first_event_s"] == [0.1]


def test_what_is_older_than_ten_minutes_is_not_shown() -> None:
    time = Time()
    pulse = Pulse(time)
    pulse.started(0.5)
    pulse.first_event(0.1)
    time.now_s += ROW_S * ROWS + ROW_S
    assert pulse.shown() == {"rows": [], "queued_s": [], "first_event_s": [], "deaths": []}


def test_the_last_deaths_are_kept_whenever_they_were() -> None:
    time = Time()
    pulse = Pulse(time)
    for n in range(DEATHS_KEPT + 5):
        pulse.died(f"a{n}", "killed", "r", "t")
    time.now_s += 86_400
    deaths = pulse.shown()["deaths"]
    assert [death.actor for death in deaths] == [f"a{n}" for n in range(5, DEATHS_KEPT + 5)]
    assert deaths[0].at_s == 1_000_000.0
