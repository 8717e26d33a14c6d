"""Placements: the needs of a graph's actors, and their keys in `langgraph.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from greenroom.core.errors import ConfigurationError
from greenroom.graphs.json_values import an_object, refuse_unknown


@dataclass(frozen=True, kw_only=True, slots=True)
class PlacementSpec:
    """The needs of a graph's actors, and the limits of its runs.

    Attributes:
        runs_per_actor: how many runs share one process; 1 isolates each.
        overflow: how many more runs a process takes while more processes may come; 0 means none.
        warm: idle actors to keep ready.
        max_actors: upper bound of actors with this placement; 0 leaves it to the server's settings.
        num_cpus: CPUs that Ray reserves per actor.
        num_gpus: GPUs that Ray reserves per actor.
        memory_mib: memory in MiB that Ray reserves per actor, and the resident memory at which the
            actor is ended; 0 means neither.
        resources: custom Ray resources per actor.
        accelerator_type: of the node, as Ray names it (``A100``, ``L4``); empty for any.
        labels: Ray's label selectors for the node, by label: a value, ``!value``, ``in(a, b)``.
        max_runs_per_actor_life: runs after which an actor is replaced; 0 means never.
        timeout_s: seconds after which a run ends with ``timeout``; 0 means never.
        max_attempts: how often a run is started when its process dies.
    """

    runs_per_actor: int = 1
    overflow: int = 0
    warm: int = 1
    max_actors: int = 0
    num_cpus: float = 0.5
    num_gpus: float = 0.0
    memory_mib: int = 0
    resources: Mapping[str, float] = field(default_factory=dict[str, float])
    accelerator_type: str = ""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    max_runs_per_actor_life: int = 0
    timeout_s: float = 3600.0
    max_attempts: int = 3


MINIMUM = {"runs_per_actor": 1, "max_attempts": 1}
"""The least value of a number, by key; 0 for the other keys."""


def parse_placement(value: Any, base: PlacementSpec, where: str) -> PlacementSpec:
    """Parses a placement.

    Args:
        value: the parsed JSON.
        base: supplies the missing keys.
        where: the path of ``value`` in the file, for error messages.

    Raises:
        ConfigurationError: a key is unknown, or its value is invalid; the message names it as
            ``where.key``.
    """
    given = an_object(value, where)
    known = {item.name: getattr(base, item.name) for item in fields(PlacementSpec)}
    refuse_unknown(given, tuple(known), where)
    for key, item in given.items():
        if key == "resources":
            known[key] = _resources(item, f"{where}.resources")
        elif key == "labels":
            known[key] = _labels(item, f"{where}.labels")
        elif key == "accelerator_type":
            known[key] = _text(item, f"{where}.accelerator_type")
        else:
            whole = isinstance(known[key], int)
            known[key] = _number(item, f"{where}.{key}", whole=whole, least=MINIMUM.get(key, 0))
    found = PlacementSpec(**known)
    _check_overflow(found, where)
    return found


def _check_overflow(spec: PlacementSpec, where: str) -> None:
    if not spec.overflow:
        return
    if spec.max_actors == 1:
        raise ConfigurationError(
            f"'{where}' has 'overflow' {spec.overflow} and 'max_actors' 1: no more processes could"
            " come, so none would overflow. Raise 'max_actors', or let runs share for good with"
            " 'runs_per_actor'."
        )
    if 0 < spec.max_runs_per_actor_life <= spec.runs_per_actor:
        raise ConfigurationError(
            f"'{where}' has 'overflow' {spec.overflow} and 'max_runs_per_actor_life'"
            f" {spec.max_runs_per_actor_life}: a process would be replaced before it could take"
            " more runs. Raise 'max_runs_per_actor_life', or take 'overflow' out."
        )


def _number(value: Any, where: str, *, whole: bool, least: int) -> int | float:
    right = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not right or not value >= least or value == float("inf"):
        kind = "a whole number" if whole else "a number"
        raise ConfigurationError(f"'{where}' is {value!r}; it must be {kind}, at least {least}.")
    return int(value) if whole else float(value)


def _resources(value: Any, where: str) -> dict[str, float]:
    return {
        key: _number(item, f"{where}.{key}", whole=False, least=0)
        for key, item in an_object(value, where).items()
    }


def _labels(value: Any, where: str) -> dict[str, str]:
    return {key: _text(item, f"{where}.{key}") for key, item in an_object(value, where).items()}


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"'{where}' is {value!r}; it must be a string.")
    return value
