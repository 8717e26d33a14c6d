"""Counts with prometheus-client, cheaply enough for the registry's decisions about runs.

A `Metric` describes a quantity, and a `Meter` holds the values. Each registry has a meter; a
gateway collects the `counted` values of each registry, and `text` formats them as one page, where
the label `SHARD` distinguishes the registries.

A meter caches the child of each combination of labels: its look-up in prometheus-client takes three
times as long as counting. It also keeps each value of a histogram until `take`, because Ray's
histograms take values and not buckets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

Labels = tuple[str, ...]
"""The values of a metric's labels, in the order in which the metric names them."""

Counted = list[Family]
"""The values of a meter, for another process: a family of samples for each metric."""

KEPT_VALUES = 10_000
"""The limit of values that a meter keeps for `take`, for each combination of labels; later values
are in the buckets only."""

SHARD = "shard"
"""The label that `text` adds: the number of the registry."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A measured quantity.

    Attributes:
        name: ``greenroom_..._total`` for a counter; other names end with their unit.
        kind: Prometheus' type.
        help: one sentence.
        labels: the names of its labels.
        buckets: the upper bounds of a histogram's buckets.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


class Meter:
    """The values of metrics. Not thread-safe.

    The metrics are in no `CollectorRegistry`, because it refuses ``greenroom_runs`` beside
    ``greenroom_runs_total``: their families have the same name.
    """

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = tuple(metrics)
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for each in self._metrics:
            match each.kind:
                case "counter":
                    counter = Counter(each.name, each.help, each.labels, registry=None)
                    self._counters[each.name] = counter
                case "gauge":
                    gauge = Gauge(each.name, each.help, each.labels, registry=None)
                    self._gauges[each.name] = gauge
                case "histogram":
                    self._histograms[each.name] = Histogram(
                        each.name, each.help, each.labels, buckets=each.buckets, registry=None
                    )
        self._counted: dict[tuple[str, Labels], Counter] = {}
        self._observed: dict[tuple[str, Labels], tuple[Histogram, list[float]]] = {}

    @property
    def metrics(self) -> Iterable[Metric]:
        """The metrics of the meter."""
        return self._metrics

    def count(self, metric: Metric, *labels: str, by: float = 1) -> None:
        """Increments a counter.

        Args:
            metric: the counter.
            labels: the values of its labels, in order.
            by: the increment.
        """
        counter = self._counted.get((metric.name, labels))
        if counter is None:
            counter = self._counters[metric.name]
            counter = self._counted[metric.name, labels] = (
                counter.labels(*labels) if labels else counter
            )
        counter.inc(by)

    def set(self, metric: Metric, values: Mapping[Labels, float]) -> None:
        """Replaces all values of a gauge; an absent combination of labels is removed."""
        gauge = self._gauges[metric.name]
        gauge.clear()
        for labels, value in values.items():
            (gauge.labels(*labels) if labels else gauge).set(value)

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Adds one value to a histogram."""
        found = self._observed.get((metric.name, labels))
        if found is None:
            histogram = self._histograms[metric.name]
            child = histogram.labels(*labels) if labels else histogram
            found = self._observed[metric.name, labels] = (child, [])
        histogram, values = found
        histogram.observe(value)
        if len(values) < KEPT_VALUES:
            values.append(value)

    def numbers(self, metric: Metric) -> Mapping[Labels, float]:
        """Returns the values of a counter or a gauge."""
        collector = (self._counters if metric.kind == "counter" else self._gauges)[metric.name]
        return {
            tuple(sample.labels[name] for name in metric.labels): sample.value
            for family in collector.collect()
            for sample in family.samples
            if sample.name == metric.name
        }

    def take(self, metric: Metric) -> dict[Labels, list[float]]:
        """Returns and clears the values that a histogram has observed since the last call."""
        taken: dict[Labels, list[float]] = {}
        for (name, labels), (_, values) in self._observed.items():
            if name == metric.name and values:
                taken[labels] = values[:]
                values.clear()
        return taken

    def counted(self) -> Counted:
        """Returns the values of all metrics."""
        collectors = {**self._counters, **self._gauges, **self._histograms}
        counted: Counted = []
        for metric in self._metrics:
            for family in collectors[metric.name].collect():
                # The start of a series is not needed, and would be a metric of its own.
                family.samples = [
                    sample for sample in family.samples if not sample.name.endswith("_created")
                ]
                counted.append(family)
        return counted


class _Shards(Collector):
    """The counted values of a server's registries as one collector."""

    def __init__(self, counted: Sequence[Counted]) -> None:
        self._counted = counted

    def collect(self) -> Iterator[Family]:
        families: dict[tuple[str, str], Family] = {}
        for number, counted in enumerate(self._counted):
            for family in counted:
                whole = families.setdefault(
                    (family.name, family.type),
                    Family(family.name, family.documentation, family.type),
                )
                whole.samples += [
                    sample._replace(labels={**sample.labels, SHARD: str(number)})
                    for sample in family.samples
                ]
        yield from families.values()


def text(counted: Sequence[Counted]) -> str:
    """Formats the counted values of the registries in Prometheus' text format 0.0.4.

    Args:
        counted: the values of each registry, in the order of their numbers.
    """
    return generate_latest(_Shards(counted)).decode()
