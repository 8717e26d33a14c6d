"""Counting, and what Prometheus reads of it."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from greenroom.core.metering import KEPT_VALUES, Meter, Metric, text

DONE = Metric(name="done_total", kind="counter", help="What is done.", labels=("who", "how"))
FREE = Metric(name="free", kind="gauge", help="What is free.", labels=("where",))
WAIT = Metric(name="wait_seconds", kind="histogram", help="Waiting.", buckets=(0.1, 1.0))


def samples(*meters: Meter) -> dict[tuple[str, ...], float]:
    """As Prometheus' own parser reads them."""
    told = text(meters[0].metrics, [meter.counted() for meter in meters])
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(told)
        for sample in family.samples
    }


def test_counters_add_up_for_each_combination_of_labels() -> None:
    meter = Meter([DONE])
    meter.count(DONE, "a", "well")
    meter.count(DONE, "a", "well", by=2)
    meter.count(DONE, "b", "badly")
    found = samples(meter)
    assert found == {("done_total", "a", "well"): 3, ("done_total", "b", "badly"): 1}


def test_a_gauge_forgets_what_it_is_not_told_again() -> None:
    meter = Meter([FREE])
    meter.set(FREE, {("here",): 1, ("there",): 2})
    meter.set(FREE, {("there",): 3})
    assert samples(meter) == {("free", "there"): 3}


def test_a_histogram_counts_below_each_bound_the_bound_included() -> None:
    meter = Meter([WAIT])
    for value in (0.05, 0.1, 0.5, 7.0):
        meter.observe(WAIT, value)
    assert samples(meter) == {
        ("wait_seconds_bucket", "0.1"): 2,
        ("wait_seconds_bucket", "1"): 3,
        ("wait_seconds_bucket", "+Inf"): 4,
        ("wait_seconds_count",): 4,
        ("wait_seconds_sum",): 7.65,
    }


def test_labels_may_hold_anything() -> None:
    meter = Meter([FREE])
    meter.set(FREE, {('a "quoted"\\\nname',): 1})
    assert samples(meter) == {("free", 'a "quoted"\\\nname'): 1}


def test_large_counts_are_told_to_the_last_digit() -> None:
    meter = Meter([FREE])
    meter.set(FREE, {("here",): 123_456_789})
    assert samples(meter) == {("free", "here"): 123_456_789}


def test_values_are_taken_once_and_stay_in_the_buckets() -> None:
    meter = Meter([WAIT])
    meter.observe(WAIT, 0.5)
    assert meter.take(WAIT) == {(): [0.5]}
    assert meter.take(WAIT) == {}
    assert samples(meter)[("wait_seconds_count",)] == 1


def test_values_that_nobody_takes_do_not_pile_up() -> None:
    meter = Meter([WAIT])
    for _ in range(KEPT_VALUES + 5):
        meter.observe(WAIT, 0.5)
    assert len(meter.take(WAIT)[()]) == KEPT_VALUES
    assert samples(meter)[("wait_seconds_count",)] == KEPT_VALUES + 5


def test_what_several_meters_count_is_told_together() -> None:
    meters = [Meter([DONE, FREE, WAIT]) for _ in range(2)]
    for meter in meters:
        meter.count(DONE, "a", "well")
        meter.set(FREE, {("here",): 2})
        meter.observe(WAIT, 0.5)
    meters[1].count(DONE, "b", "badly")
    found = samples(*meters)
    assert found["done_total", "a", "well"] == 2
    assert found["done_total", "b", "badly"] == 1
    assert found["free", "here"] == 4
    assert found["wait_seconds_bucket", "0.1"] == 0
    assert found["wait_seconds_bucket", "1"] == 2
    assert found[("wait_seconds_sum",)] == 1.0
