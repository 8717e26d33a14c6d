"""Counting, cheaply: plain numbers in one process, told to others when they ask.

What is counted is written down as `Metric`s; a `Meter` holds their values. To count costs about
one microsecond, so it can stand where a run is decided. `text` is what Prometheus reads, of one
meter or of several that count the same.

Histograms keep one count per bucket, and the values themselves only until somebody `takes` them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Labels = tuple[str, ...]
"""The values of a metric's labels, in the order in which it names them."""

KEPT_VALUES = 10_000
"""Of each metric, values that nobody has taken yet; what comes after is in the buckets only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """Something that is counted.

    Attributes:
        name: ``greenroom_..._total`` of a counter, with the unit at the end of others.
        kind: as Prometheus calls it.
        help: one sentence.
        labels: what its values are told apart by.
        buckets: upper bounds, of a histogram.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


@dataclass(slots=True)
class _Histogram:
    counts: list[int]
    sum: float = 0.0
    values: list[float] = field(default_factory=list[float])


@dataclass(frozen=True, slots=True)
class Counted:
    """What a meter has counted, to be told in another process.

    Attributes:
        numbers: of counters and gauges, by metric.
        buckets: of histograms, by metric: how many values there are in each, and their sum.
    """

    numbers: dict[str, dict[Labels, float]]
    buckets: dict[str, dict[Labels, tuple[list[int], float]]]


class Meter:
    """The values of metrics. Used from one thread."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = {metric.name: metric for metric in metrics}
        self._numbers: dict[str, dict[Labels, float]] = {name: {} for name in self._metrics}
        self._histograms: dict[str, dict[Labels, _Histogram]] = {name: {} for name in self._metrics}

    @property
    def metrics(self) -> Iterable[Metric]:
        return self._metrics.values()

    def count(self, metric: Metric, *labels: str, by: float = 1) -> None:
        """A counter goes up."""
        numbers = self._numbers[metric.name]
        numbers[labels] = numbers.get(labels, 0) + by

    def set(self, metric: Metric, values: Mapping[Labels, float]) -> None:
        """A gauge's values of now, all of them: what is not named is gone."""
        self._numbers[metric.name] = dict(values)

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """One value of a histogram."""
        histograms = self._histograms[metric.name]
        found = histograms.get(labels)
        if found is None:
            found = histograms[labels] = _Histogram([0] * (len(metric.buckets) + 1))
        found.counts[bisect_left(metric.buckets, value)] += 1
        found.sum += value
        if len(found.values) < KEPT_VALUES:
            found.values.append(value)

    def numbers(self, metric: Metric) -> Mapping[Labels, float]:
        """The values of a counter or a gauge."""
        return dict(self._numbers[metric.name])

    def take(self, metric: Metric) -> dict[Labels, list[float]]:
        """What was observed since the last time."""
        taken: dict[Labels, list[float]] = {}
        for labels, histogram in self._histograms[metric.name].items():
            if histogram.values:
                taken[labels], histogram.values = histogram.values, []
        return taken

    def counted(self) -> Counted:
        """Everything that is counted so far."""
        return Counted(
            numbers={name: dict(numbers) for name, numbers in self._numbers.items()},
            buckets={
                name: {labels: (each.counts[:], each.sum) for labels, each in histograms.items()}
                for name, histograms in self._histograms.items()
            },
        )


def text(metrics: Iterable[Metric], counted: Sequence[Counted]) -> str:
    """What meters have counted, together, in Prometheus' text format 0.0.4."""
    lines: list[str] = []
    for metric in metrics:
        lines += [
            f"# HELP {metric.name} {metric.help}",
            f"# TYPE {metric.name} {metric.kind}",
        ]
        numbers: dict[Labels, float] = {}
        buckets: dict[Labels, tuple[list[int], float]] = {}
        for each in counted:
            for labels, number in each.numbers[metric.name].items():
                numbers[labels] = numbers.get(labels, 0) + number
            for labels, (counts, total) in each.buckets[metric.name].items():
                before, sum_before = buckets.get(labels, ([0] * len(counts), 0.0))
                added = [a + b for a, b in zip(before, counts, strict=True)]
                buckets[labels] = added, sum_before + total
        for labels, number in sorted(numbers.items()):
            lines.append(f"{metric.name}{_braces(metric.labels, labels)} {number:.15g}")
        for labels, (counts, total) in sorted(buckets.items()):
            lines += _lines(metric, labels, counts, total)
    return "\n".join([*lines, ""])


def _lines(metric: Metric, labels: Labels, counts: list[int], total: float) -> Iterable[str]:
    below = 0
    bounds = [*(f"{bound:g}" for bound in metric.buckets), "+Inf"]
    for bound, count in zip(bounds, counts, strict=True):
        below += count
        braces = _braces((*metric.labels, "le"), (*labels, bound))
        yield f"{metric.name}_bucket{braces} {below}"
    yield f"{metric.name}_sum{_braces(metric.labels, labels)} {total:.15g}"
    yield f"{metric.name}_count{_braces(metric.labels, labels)} {below}"


def _braces(names: tuple[str, ...], values: Labels) -> str:
    if not names:
        return ""
    pairs = (f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))
    return f"{{{','.join(pairs)}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
