"""Records of runs and crons from flat fields: what is a fact of a run goes into its `RunFacts`."""

from __future__ import annotations

import dataclasses
import uuid
from datetime import UTC, datetime
from typing import Any

from greenroom.core.crons import Cron
from greenroom.core.identity import system_assistant_id
from greenroom.core.runs import RunFacts, RunOrder, RunRequest
from greenroom.core.scopes import SERVER

FACTS = {each.name for each in dataclasses.fields(RunFacts)}


def request_of(**fields: Any) -> RunRequest:
    """A request; the fields are those of `RunRequest` and of `RunFacts`."""
    scope = fields.pop("scope", SERVER)
    return RunRequest(facts=facts_of(fields), scope=scope, **fields)


def order_of(**fields: Any) -> RunOrder:
    """An order; the fields are those of `RunOrder` and of `RunFacts`."""
    return RunOrder(facts=facts_of(fields), **fields)


def facts_of(fields: dict[str, Any]) -> RunFacts:
    """Takes the facts of a run out of fields."""
    return RunFacts(**{name: fields.pop(name) for name in [*fields] if name in FACTS})


def an_order(run_id: str, attempt: int = 1) -> RunOrder:
    """The order of an attempt at an ordinary run of thread ``t``."""
    return order_of(
        run_id=run_id,
        thread_id="t",
        assistant_id="a",
        graph_id="g",
        attempt=attempt,
        kwargs=b"{}",
        temporary=False,
        resumable=False,
    )


def cron_of(**changes: Any) -> Cron:
    """A cron of graph ``g`` that fires each minute, and is not due for long."""
    given: dict[str, Any] = {
        "cron_id": str(uuid.uuid4()),
        "assistant_id": system_assistant_id("g"),
        "thread_id": None,
        "schedule": "* * * * *",
        "timezone": None,
        "end_time": None,
        "enabled": True,
        "on_run_completed": "delete",
        "payload": b"{}",
        "metadata": b"{}",
        "next_run_date": datetime(2999, 1, 1, tzinfo=UTC),
    }
    return Cron(**(given | changes))
