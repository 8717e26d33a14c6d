"""Records of runs from flat fields: what is a fact of the run goes into its `RunFacts`."""

from __future__ import annotations

import dataclasses
from typing import Any

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
