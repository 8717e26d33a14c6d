"""``langsmith_tracer``: the project of a run's trace, where LangSmith is switched on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from langchain_core.tracers.context import tracing_v2_callback_var
from langsmith.utils import get_env_var

from greenroom.core.identity import EXAMPLE, PROJECT
from greenroom.graphs.langsmith_tracer import chosen_tracer

EXAMPLE_ID = "11111111-1111-4111-8111-111111111111"
CONFIG = {"configurable": {PROJECT: "mine", EXAMPLE: EXAMPLE_ID}}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    get_env_var.cache_clear()
    yield
    get_env_var.cache_clear()


@pytest.mark.parametrize(
    ("config", "seen"),
    [
        (CONFIG, ("mine", UUID(EXAMPLE_ID))),
        ({"configurable": {PROJECT: "mine"}}, ("mine", None)),
        ({"configurable": {}}, None),
        ({}, None),
    ],
)
def test_the_tracer_has_the_project_and_the_example(monkeypatch, config: Any, seen: Any) -> None:
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    monkeypatch.setenv("LANGSMITH_API_KEY", "none")
    monkeypatch.setattr("langchain_core.tracers.langchain.get_client", lambda: None)
    with chosen_tracer(config):
        tracer = tracing_v2_callback_var.get()
        found = (tracer.project_name, tracer.example_id) if tracer is not None else None
    assert found == seen
    assert tracing_v2_callback_var.get() is None


def test_without_langsmith_nothing_is_traced(monkeypatch) -> None:
    monkeypatch.setenv("LANGSMITH_TRACING", "false")
    with chosen_tracer(CONFIG):
        assert tracing_v2_callback_var.get() is None
