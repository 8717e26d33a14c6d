"""Spans of nodes, in this process: the exporter keeps them in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from typing_extensions import TypedDict

from greenroom import tracing
from greenroom.graphs import spans


class State(TypedDict):
    x: int


def graph_of(**nodes: Any) -> Any:
    builder: Any = StateGraph(State)
    for name, node in nodes.items():
        builder.add_node(name, node)
        builder.add_edge(START, name)
    return builder.compile()


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


async def executed(graph: Any, kept: InMemorySpanExporter, **config: Any) -> dict[str, Any]:
    """The spans of a run, by name; the run's own is ``run``."""
    with tracing.span("run") as run, spans.of_nodes(run):
        await graph.ainvoke({"x": 1}, config)
    return {span.name: span for span in kept.get_finished_spans()}


def above(span: ReadableSpan, found: dict[str, Any]) -> str | None:
    ids = {each.context.span_id: name for name, each in found.items()}
    return ids[span.parent.span_id] if span.parent is not None else None


async def test_nodes_of_a_subgraph_are_below_its_node(kept: InMemorySpanExporter) -> None:
    child = graph_of(inner=lambda state: {"x": 2})
    found = await executed(graph_of(outer=child), kept)
    tree = {name: above(span, found) for name, span in found.items()}
    assert tree == {"run": None, "node outer": "run", "node inner": "node outer"}


async def test_a_question_to_a_human_is_no_failure(kept: InMemorySpanExporter) -> None:
    graph = graph_of(ask=lambda state: {"x": interrupt("how many?")})
    graph.checkpointer = InMemorySaver()
    found = await executed(graph, kept, configurable={"thread_id": "t"})
    assert found["node ask"].status.is_ok or found["node ask"].status.is_unset


async def test_a_node_that_raises_is_one(kept: InMemorySpanExporter) -> None:
    def fail(state: State) -> State:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await executed(graph_of(fail=fail), kept)
    status = {span.name: span.status for span in kept.get_finished_spans()}
    assert not status["node fail"].is_ok
    assert status["node fail"].description == "no"


async def test_without_tracing_a_graph_is_executed_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "_tracer", None)
    with tracing.span("run") as run, spans.of_nodes(run):
        assert await graph_of(one=lambda state: {"x": 2}).ainvoke({"x": 1}) == {"x": 2}
    assert run is None
    assert tracing.traceparent() is None


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, False),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a"}, False),
    ],
)
def test_only_the_standard_variables_switch_it_on(
    environment: dict[str, str], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*tracing.SWITCHES, "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert tracing.wanted() is wanted
