"""Spans of OpenTelemetry, from the request to the node; off unless the environment asks for them.

    request (gateway) ─┬─ create (gateway: until the run is stored)
                       ├─ queue  (registry: until it is ordered)
                       └─ run    (its actor, one for each attempt) ── node, node, ...

The SDK reads its standard variables: ``OTEL_EXPORTER_OTLP_ENDPOINT`` (or ``OTEL_TRACES_EXPORTER``)
switches tracing on, ``OTEL_TRACES_SAMPLER`` selects the recorded traces. Without them nothing of
OpenTelemetry is loaded, and every function here returns at once.

A ``traceparent`` (W3C Trace Context) carries the position in the trace along with the run.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Generator
from typing import Any

log = logging.getLogger(__name__)

SWITCHES = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_TRACES_EXPORTER",
)

_tracer: Any = None


def is_on() -> bool:
    """Whether `configure` has switched tracing on in this process."""
    return _tracer is not None


def wanted() -> bool:
    """Whether the environment asks for spans."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if os.environ.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return False  # none, or one that is not brought along
    return any(os.environ.get(name) for name in SWITCHES)


def configure(part: str, name: str | None = None) -> None:
    """Switches tracing on in this process if the environment asks for it; called at the start.

    Args:
        part: ``gateway``, ``registry`` or ``actor``.
        name: the actor's name.
    """
    global _tracer
    if _tracer is not None or not wanted():
        return
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        log.warning(
            "OTEL_* asks for spans, but what sends them is not installed: pip install"
            " 'greenroom[tracing]'.",
            extra={"reason": str(error)},
        )
        return
    about = {"greenroom.part": part, **({"service.instance.id": name} if name else {})}
    if not os.environ.get("OTEL_SERVICE_NAME"):
        about["service.name"] = "greenroom"
    provider = TracerProvider(resource=Resource.create(about))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    if part == "actor":
        # What the graphs' own code and its libraries say of themselves goes with it. Not in the
        # gateway, where FastAPI would add two spans to each request.
        trace.set_tracer_provider(provider)
    _tracer = provider.get_tracer("greenroom")


def traceparent() -> str | None:
    """Returns the current position in the trace, to continue it elsewhere; None when off."""
    if _tracer is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


@contextlib.contextmanager
def span(
    name: str, *, parent: str | None = None, kind: str = "internal", **about: str | int
) -> Generator[Any, None, None]:
    """Records the block as a span, with its exceptions. Yields the span, or None when off.

    Args:
        name: the name of the span.
        parent: the ``traceparent`` of the parent; None for the current span of this task.
        kind: ``internal``, ``server`` or ``client``.
        about: attributes; ``run_id`` becomes ``greenroom.run_id``.
    """
    if _tracer is None:
        yield None
        return
    from opentelemetry.trace import SpanKind

    with _tracer.start_as_current_span(
        name, context=_context(parent), kind=SpanKind[kind.upper()], attributes=_attributes(about)
    ) as current:
        yield current


def passed(name: str, *, parent: str | None, begun_ns: int, **about: str | int) -> None:
    """Records a span that ends now and began at ``begun_ns`` (Unix time in nanoseconds)."""
    if _tracer is None:
        return
    _tracer.start_span(
        name, context=_context(parent), start_time=begun_ns, attributes=_attributes(about)
    ).end()


def start(name: str, above: Any, **about: str | int) -> Any:
    """Starts a span that the caller ends; ``above`` is its parent span, or None."""
    from opentelemetry import trace

    context = trace.set_span_in_context(above) if above is not None else None
    return _tracer.start_span(name, context=context, attributes=_attributes(about))


def failed(span: Any, why: BaseException | str) -> None:
    """Marks a span as failed."""
    from opentelemetry.trace import Status, StatusCode

    if isinstance(why, BaseException):
        span.record_exception(why)
    span.set_status(Status(StatusCode.ERROR, str(why)))


def _context(parent: str | None) -> Any:
    if parent is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": parent})


def _attributes(about: dict[str, str | int]) -> dict[str, str | int]:
    return {f"greenroom.{key}": value for key, value in about.items()}
