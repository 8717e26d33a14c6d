"""What is told to Ray, and that dashboards, alerts and the documentation name what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from actors.common import metrics
from actors.common.metering import Meter

ROOT = Path(__file__).parent.parent.parent
DASHBOARD = ROOT / "dashboards" / "greenroom.json"
ALERTS = ROOT / "dashboards" / "alerts.yaml"
PAGE = ROOT / "docs" / "observability.md"
SUFFIXES = ("_bucket", "_sum", "_count")


def names_in(text: str) -> set[str]:
    """Metrics that a text names, without what Prometheus adds to a histogram's name."""
    known = {metric.name: metric for metric in metrics.ALL}
    found = set()
    for name in re.findall(r"greenroom_[a-z_]+", text):
        base = next((name.removesuffix(end) for end in SUFFIXES if name.endswith(end)), name)
        histogram = known.get(base)
        found.add(base if histogram is not None and histogram.kind == "histogram" else name)
    return found


def expressions() -> list[str]:
    board = json.loads(DASHBOARD.read_text())
    rules = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    return [
        *(target["expr"] for panel in board["panels"] for target in panel["targets"]),
        *(rule["expr"] for rule in rules),
    ]


def test_every_metric_that_the_dashboard_and_the_alerts_name_exists() -> None:
    known = {metric.name for metric in metrics.ALL}
    assert expressions()
    for expression in expressions():
        assert names_in(expression), expression
        assert names_in(expression) <= known, expression


def test_every_metric_is_on_the_dashboard_and_explained() -> None:
    known = {metric.name for metric in metrics.ALL}
    assert known <= names_in(DASHBOARD.read_text())
    assert known <= names_in(PAGE.read_text())


def test_labels_that_are_asked_for_are_labels_of_the_metric() -> None:
    known = {metric.name: {*metric.labels, "le"} for metric in metrics.ALL}
    for expression in expressions():
        asked = {
            *re.findall(r"(\w+)=~?\"", expression),
            *(
                label
                for by in re.findall(r"by \(([^)]*)\)", expression)
                for label in by.split(", ")
            ),
        }
        for name in names_in(expression):
            assert asked <= known[name], expression


def test_names_are_unique_and_say_their_kind() -> None:
    names = [metric.name for metric in metrics.ALL]
    assert len(names) == len(set(names))
    for metric in metrics.ALL:
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.name.endswith("_seconds") == (metric.kind == "histogram")
        assert list(metric.buckets) == sorted(metric.buckets)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What Ray's metrics are told; outside an actor they would drop it."""
    found: list[tuple[Any, ...]] = []

    def record(self: Any, value: float, tags: dict[str, str] | None = None) -> None:
        found.append((self.info["name"], value, *(tags or {}).values()))

    for kind, method in (("Counter", "inc"), ("Gauge", "set"), ("Histogram", "observe")):
        monkeypatch.setattr(getattr(metrics.ray_metrics, kind), method, record)
    return found


def test_ray_is_told_what_changed(told: list[tuple[Any, ...]]) -> None:
    meter = Meter(metrics.ALL)
    export = metrics.RayExport(meter)
    meter.count(metrics.RUNS, "chat", "success", by=3)
    meter.set(metrics.POOL_FREE, {("chat",): 2})
    meter.observe(metrics.QUEUE_WAIT, 0.5, "chat")
    export.tell(export.gather())
    meter.count(metrics.RUNS, "chat", "success")
    meter.set(metrics.POOL_FREE, {})
    export.tell(export.gather())
    assert told == [
        ("greenroom_runs_total", 3, "chat", "success"),
        ("greenroom_queue_wait_seconds", 0.5, "chat"),
        ("greenroom_pool_free_places", 2, "chat"),
        ("greenroom_runs_total", 1, "chat", "success"),
        # Ray would go on telling 2 for a pool that is gone.
        ("greenroom_pool_free_places", 0, "chat"),
    ]
