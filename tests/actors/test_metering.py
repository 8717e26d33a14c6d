"""Counting, and what Prometheus reads of it."""

from __future__ import annotations

import pickle

from prometheus_client.parser import text_string_to_metric_families

from actors.common.metering import KEPT_VALUES, SHARD, Meter, Metric, text

DONE = Metric(name="done_total", kind="counter", help="What is done.", labels=("who", "how"))
FREE = Metric(name="free", kind="gauge", help="What is free.", labels=("where",))
WAIT = Metric(name="wait_seconds", kind="histogram", help="Waiting.", buckets=(0.1, 1.0))


def samples(*meters: Meter) -> dict[tuple[str, ...], float]:
    """As Prometheus' own parser reads them; of one meter without its number."""
    # As they travel to a gateway.
    told = text([pickle.loads(pickle.dumps(meter.counted())) for meter in meters])
    return {
        (
            sample.name,
            *(v for k, v in sample.labels.items() if k != SHARD or len(meters) > 1),
        ): sample.value
        for family in text_string_to_metric_families(told)
        for sample in family.samples
    }


def test_counters_add_up_for_each_combination_of_labels() -> None:
    meter = Meter([DONE])
    meter.count(DONE, "a", "well")
    meter.count(DONE, "a", "well", by=2)
    meter.count(DONE, "b", "badly")
    found = samples(meter)
    assert found == {("done_total", "well", "a"): 3, ("done_total", "badly", "b"): 1}


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
        ("wait_seconds_bucket", "1.0"): 3,
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


def test_what_several_registries_count_is_told_apart() -> None:
    meters = [Meter([DONE, FREE, WAIT]) for _ in range(2)]
    for n, meter in enumerate(meters, start=1):
        meter.count(DONE, "a", "well", by=n)
        meter.set(FREE, {("here",): n})
        meter.observe(WAIT, 0.5)
    meters[1].count(DONE, "b", "badly")
    found = samples(*meters)
    assert found["done_total", "well", "0", "a"] == 1
    assert found["done_total", "well", "1", "a"] == 2
    assert found["done_total", "badly", "1", "b"] == 1
    assert (found["free", "0", "here"], found["free", "1", "here"]) == (1, 2)
    assert found["wait_seconds_bucket", "1.0", "0"] == 1
    assert found["wait_seconds_sum", "1"] == 0.5
    # One family each: Prometheus refuses a name that comes twice.
    told = text([meter.counted() for meter in meters])
    assert told.count("# TYPE ") == 3


def test_a_counter_and_a_gauge_may_have_one_name_in_front() -> None:
    total = Metric(name="free_total", kind="counter", help="What became free.")
    meter = Meter([total, FREE])
    meter.count(total)
    meter.set(FREE, {("here",): 2})
    assert samples(meter) == {("free_total",): 1, ("free", "here"): 2}


def test_nothing_is_told_but_what_is_documented() -> None:
    meter = Meter([DONE, WAIT])
    meter.count(DONE, "a", "well")
    meter.observe(WAIT, 0.5)
    assert "_created" not in text([meter.counted()])
