"""``langsmith_tracer`` of a run: the project, or the example of a data set, that its trace is for.

LangChain traces every run of a process in which LangSmith is switched on (``LANGSMITH_TRACING``),
into the project of that process. A run may name another one.
"""
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from langchain_core.tracers.context import tracing_v2_enabled
from langsmith.utils import tracing_is_enabled

from greenroom.core.identity import EXAMPLE, PROJECT


@contextmanager
def chosen_tracer(config: Mapping[str, Any]) -> Generator[None]:
    """Traces what is executed in it into the project that a run's config names.

    Does nothing if it names none, or LangSmith is switched off.
    """
    given: Mapping[str, Any] = config.get("configurable") or {}
    project, example = given.get(PROJECT), given.get(EXAMPLE)
    if (project is None and example is None) or not tracing_is_enabled():
        yield
        return
    with tracing_v2_enabled(project_name=project, example_id=example):
        yield
