"""Where Greenroom answers otherwise than the reference, by intent."""

from __future__ import annotations

DIFFERENCES: dict[str, str] = {}


def scenario_of(node_id: str) -> str:
    """``test_module.py::test_name`` of a test, whatever its parameters."""
    return node_id.rpartition("/")[2].partition("[")[0]


def reason_of(node_id: str) -> str | None:
    scenario = scenario_of(node_id)
    return DIFFERENCES.get(scenario) or DIFFERENCES.get(scenario.partition("::")[0])
