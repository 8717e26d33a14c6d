"""All metrics of a server, and their export to Ray.

The registry counts, because it admits, orders and ends runs, keeps the actors and writes to the
database. An actor's report adds the figures that only the actor knows. So there is one source, and
`GET /metrics` of any gateway returns it, also on a laptop without Prometheus.

Ray exports the same metrics beside its own, on the port of each node's agent, with the prefix
``ray_``. One call of `ray.util.metrics` takes 3 to 8 microseconds (measured with three labels, in
an actor, on a busy machine); a `Meter` takes 1 to 2. So a thread sends the values to Ray every
`EXPORT_INTERVAL_S`, outside the decisions about runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import ray
import ray.util.metrics as ray_metrics

from actors.common.metering import Labels, Meter, Metric

log = logging.getLogger("greenroom.metrics")

EXPORT_INTERVAL_S = 5.0

_SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
    60,
    300,
    3600,
)
_LATENCIES = _SECONDS[:13]

RUNS = Metric(
    name="greenroom_runs_total",
    kind="counter",
    help="Runs that ended, by how.",
    labels=("graph", "status"),
)
RUNS_NOW = Metric(
    name="greenroom_runs",
    kind="gauge",
    help="Runs that are not over; pending ones wait for a slot, their thread, or their time.",
    labels=("graph", "status"),
)
QUEUE_WAIT = Metric(
    name="greenroom_queue_wait_seconds",
    kind="histogram",
    help="From a run's creation (a delayed run's due time) to the order to its first actor.",
    labels=("graph",),
    buckets=_SECONDS,
)
FIRST_EVENT = Metric(
    name="greenroom_first_event_seconds",
    kind="histogram",
    help="From the start of an attempt to its first event after the metadata event.",
    labels=("graph",),
    buckets=_LATENCIES,
)
RUN_TIME = Metric(
    name="greenroom_run_seconds",
    kind="histogram",
    help="From the order of a run's last attempt to its end.",
    labels=("graph",),
    buckets=_SECONDS,
)
EVENTS = Metric(
    name="greenroom_events_total",
    kind="counter",
    help="Events of attempts that have ended.",
    labels=("graph",),
)
SWEPT_THREADS = Metric(
    name="greenroom_swept_threads_total",
    kind="counter",
    help="Threads whose time to live was over: deleted, pruned, or refused (the state of such a"
    " thread is rebuilt from all of its checkpoints, so it keeps them).",
    labels=("outcome",),
)
FREED_CHECKPOINTS = Metric(
    name="greenroom_freed_checkpoints_total",
    kind="counter",
    help="Checkpoints that went with threads whose time to live was over.",
    labels=("outcome",),
)
FREED_BYTES = Metric(
    name="greenroom_freed_bytes_total",
    kind="counter",
    help="Stored bytes of checkpoints, values and writes that went with such threads.",
    labels=("outcome",),
)
ACTOR_STARTS = Metric(
    name="greenroom_actor_starts_total",
    kind="counter",
    help="Run actors that were started, and how that went: ready or failed.",
    labels=("pool", "outcome"),
)
ACTOR_DEATHS = Metric(
    name="greenroom_actor_deaths_total",
    kind="counter",
    help="Run actors that died while they were needed.",
    labels=("pool",),
)
RECOVERIES = Metric(
    name="greenroom_recoveries_total",
    kind="counter",
    help="Runs that lost their actor, or were handed back by it, and go on in another attempt.",
    labels=("graph",),
)
POOL_ACTORS = Metric(
    name="greenroom_pool_actors",
    kind="gauge",
    help="Run actors of a pool, by state.",
    labels=("pool", "state"),
)
POOL_FREE = Metric(
    name="greenroom_pool_free_places",
    kind="gauge",
    help="Runs that could start at once.",
    labels=("pool",),
)
POOL_WAITING = Metric(
    name="greenroom_pool_waiting_runs",
    kind="gauge",
    help="Runs that wait for a slot of the pool.",
    labels=("pool",),
)
REGISTRY_CALLS = Metric(
    name="greenroom_registry_seconds",
    kind="histogram",
    help="From the arrival of a call at the registry to its answer: create, finish.",
    labels=("call",),
    buckets=_LATENCIES,
)
COMMITS = Metric(
    name="greenroom_database_commit_seconds",
    kind="histogram",
    help="One commit of the registry, with all the writes that had gathered.",
    buckets=_LATENCIES,
)
CRON_FIRINGS = Metric(
    name="greenroom_cron_firings_total",
    kind="counter",
    help="Due dates of crons: fired, late (once for all missed dates), skipped, failed, delayed.",
    labels=("outcome",),
)

ALL = (
    RUNS,
    RUNS_NOW,
    QUEUE_WAIT,
    FIRST_EVENT,
    RUN_TIME,
    EVENTS,
    SWEPT_THREADS,
    FREED_CHECKPOINTS,
    FREED_BYTES,
    ACTOR_STARTS,
    ACTOR_DEATHS,
    RECOVERIES,
    POOL_ACTORS,
    POOL_FREE,
    POOL_WAITING,
    REGISTRY_CALLS,
    COMMITS,
    CRON_FIRINGS,
)


class RayExport:
    """Sends a meter's changes to Ray. Ray's counters take increments, so this keeps the values that
    it has sent."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._told: dict[str, dict[Labels, float]] = {}
        self._exported = {metric.name: _exported(metric) for metric in meter.metrics}

    def gather(self) -> list[tuple[Metric, Labels, float]]:
        """Returns the changes since the last call. Call it on the meter's thread."""
        changes: list[tuple[Metric, Labels, float]] = []
        for metric in self._meter.metrics:
            if metric.kind == "histogram":
                for labels, values in self._meter.take(metric).items():
                    changes += [(metric, labels, value) for value in values]
                continue
            now, told = dict(self._meter.numbers(metric)), self._told.get(metric.name, {})
            self._told[metric.name] = now
            if metric.kind == "counter":
                added = ((each, value - told.get(each, 0)) for each, value in now.items())
                changes += [(metric, each, value) for each, value in added if value]
            else:
                # Ray keeps a gauge's value until it gets another one.
                gone = dict.fromkeys(told.keys() - now.keys(), 0.0)
                changes += [(metric, each, value) for each, value in (now | gone).items()]
        return changes

    def tell(self, changes: list[tuple[Metric, Labels, float]]) -> None:
        """Sends changes to Ray. Any thread may call it."""
        for metric, labels, value in changes:
            exported = self._exported[metric.name]
            tags = dict(zip(metric.labels, labels, strict=True))
            match exported:
                case ray_metrics.Counter():
                    exported.inc(value, tags)
                case ray_metrics.Gauge():
                    exported.set(value, tags)
                case ray_metrics.Histogram():
                    exported.observe(value, tags)


def _exported(
    metric: Metric,
) -> ray_metrics.Counter | ray_metrics.Gauge | ray_metrics.Histogram:
    match metric.kind:
        case "counter":
            return ray_metrics.Counter(metric.name, metric.help, metric.labels)
        case "gauge":
            return ray_metrics.Gauge(metric.name, metric.help, metric.labels)
        case "histogram":
            return ray_metrics.Histogram(metric.name, metric.help, [*metric.buckets], metric.labels)


async def export(meter: Meter, measure: Callable[[], None]) -> None:
    """Exports a meter to Ray every `EXPORT_INTERVAL_S` until it is cancelled.

    Args:
        meter: the meter.
        measure: sets the gauges; called before each export.
    """
    if not ray.is_initialized():
        return  # outside an actor, in a test
    told = RayExport(meter)
    while True:
        await asyncio.sleep(EXPORT_INTERVAL_S)
        measure()
        try:
            await asyncio.to_thread(told.tell, told.gather())
        except Exception:  # a failure of Ray's agent must not affect runs
            log.warning("metrics could not be exported", exc_info=True)
