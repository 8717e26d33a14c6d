"""The workloads: each is a function from a subject to named figures.

The figures of one call belong to one round; the table has the medians of the rounds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.workloads.alone import cold, items, memory, startup, stored
from benchmarks.workloads.answering import beside, rps, slow, ttft
from benchmarks.workloads.events import blob, burst, history, idle, tokens
from benchmarks.workloads.isolation import block, cpu
from benchmarks.workloads.scales import QUICK as QUICK
from benchmarks.workloads.scales import Figures, Scale


@dataclass(frozen=True)
class Workload:
    """A measurement.

    Attributes:
        of: the subjects that it measures.
        alone: whether it starts and stops its subject itself, while no other subject runs.
    """

    name: str
    run: Callable[[Any, Scale], Awaitable[Figures]]
    of: frozenset[str]
    alone: bool = False


BARES = frozenset({"bare", "bare-pooled"})
GREENROOMS = frozenset({"greenroom", "dense"})
SERVERS = GREENROOMS | {"reference", "aegra"}
EVERYONE = BARES | SERVERS

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("startup", startup, SERVERS, alone=True),
        Workload("memory", memory, SERVERS, alone=True),
        Workload("cold", cold, frozenset({"greenroom", "reference", "aegra"}), alone=True),
        Workload("stored", stored, frozenset({"greenroom"}), alone=True),
        Workload("items", items, frozenset({"greenroom"}), alone=True),
        # Before the pools have grown: an actor that ends meanwhile would show as less than nothing.
        Workload("idle", idle, SERVERS),
        Workload("ttft", ttft, EVERYONE),
        # With one run per actor, 32 streams would be 32 processes on two cores.
        Workload("beside", beside, BARES | {"dense", "aegra"}),
        Workload("rps", rps, EVERYONE | {"reference-few"}),
        Workload("slow", slow, EVERYONE),
        Workload("block", block, SERVERS),
        Workload("cpu", cpu, EVERYONE),
        Workload("tokens", tokens, EVERYONE),
        Workload("burst", burst, EVERYONE),
        Workload("blob", blob, EVERYONE),
        Workload("history", history, SERVERS),
    )
}
