"""The resources that an actor needs, and whether a cluster can ever place it: decisions, no Ray.

An actor that fits on no node *now* waits, and Ray's autoscaler counts it as demand. An actor that
can never fit on any node also waits, for ever and without a message from Ray. Two sources tell: the
total resources of the nodes, and the autoscaler's list of requests that none of its node types can
satisfy. (The first version of Ray's autoscaler keeps no such list: with it a request that no
present node can satisfy waits, and Ray's log says why.)
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from greenroom.core.units import MIB

ACCELERATOR = "accelerator_type:"
ACCELERATOR_SHARE = 0.001
"""The amount of a node's accelerator type that Ray reserves for each actor that requests it."""

HEAD = "node:__internal_head__"
"""Ray's resource of the head node. Long-lived actors without reservations are placed there: the
autoscaler removes any other node whose actors reserve nothing, as idle."""
HEAD_SHARE = 0.0001


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolSpec:
    """The specification of a pool's actors. Frozen, so that equal specifications share a pool.

    Attributes:
        graphs: the ids of the graphs that the actors load.
        version: the version of their code; actors of another version are not adopted.
        runs_per_actor: the number of runs that one actor executes at once.
        overflow: the number of runs that it executes beyond that while more actors may come.
        warm: the number of free actors that are kept ready.
        max_actors: the limit of this pool's actors; of several registries, each one's share.
        num_cpus, num_gpus, resources: the resources that Ray reserves for one actor.
        accelerator_type: the node's accelerator type; empty for any.
        labels: selectors that the node's labels must match.
        memory_mib: the memory that Ray reserves for one actor, and the limit of its resident
            memory; 0 for neither.
        max_runs: the number of runs after which an actor is replaced; 0 for no limit.
    """

    graphs: tuple[str, ...]
    version: str = ""
    runs_per_actor: int = 1
    overflow: int = 0
    warm: int = 2
    max_actors: int = 8
    num_cpus: float = 0.0
    num_gpus: float = 0.0
    resources: tuple[tuple[str, float], ...] = ()
    accelerator_type: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    memory_mib: int = 0
    max_runs: int = 0

    @property
    def isolates(self) -> bool:
        """Whether an actor never executes more than one run at a time."""
        return self.runs_per_actor == 1 and not self.overflow

    @property
    def is_scarce(self) -> bool:
        """Whether an actor needs something of which a node has only so much, such as a GPU."""
        others = [name for name, _ in self.resources if name != HEAD]
        return bool(self.num_gpus or self.accelerator_type or others or self.memory_mib)


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A living node: its labels and its total resources, used or not."""

    resources: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """A request for which the autoscaler has no type of node."""

    resources: Mapping[str, float]
    labelled: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterView:
    """The nodes of a cluster, and the state of its autoscaler.

    Attributes:
        nodes: the living nodes.
        autoscales: whether an autoscaler adds nodes for waiting requests.
        refused: the waiting requests that the autoscaler can never satisfy.
    """

    nodes: tuple[Node, ...]
    autoscales: bool = False
    refused: tuple[Refused, ...] = ()


def request_of(spec: PoolSpec) -> dict[str, float]:
    """Returns the amounts that Ray reserves for an actor, by Ray's names."""
    request = {
        "CPU": spec.num_cpus,
        "GPU": spec.num_gpus,
        "memory": float(spec.memory_mib * MIB),
        **dict(spec.resources),
    }
    if spec.accelerator_type:
        request[ACCELERATOR + spec.accelerator_type] = ACCELERATOR_SHARE
    return {name: amount for name, amount in request.items() if amount}


def impossible(spec: PoolSpec, cluster: ClusterView) -> str | None:
    """Decides whether no node can ever hold an actor.

    Returns:
        the reason as a sentence; None if a node can hold it, or an autoscaler may add such a node.
    """
    request = request_of(spec)
    if any(_holds(node, request, spec.labels) for node in cluster.nodes):
        return None
    labelled = bool(spec.labels)
    refused = any(
        _same(request, each.resources) and each.labelled is labelled for each in cluster.refused
    )
    if cluster.autoscales and not refused:
        return None
    graphs = ", ".join(f"'{graph_id}'" for graph_id in spec.graphs)
    return (
        f"No node can hold an actor of {graphs}: it needs {_wanted(spec)}; "
        f"{_lacking(spec, cluster)}, and no autoscaler can add one that has it."
    )


def adds_nodes(status: bytes) -> bool:
    """Whether a report of the first version's monitor is from an autoscaler that adds nodes.

    The monitor also reports without such an autoscaler. Then each node has its own type, named
    after the node's id; else the types have the names from the cluster's configuration.

    Args:
        status: the report as JSON.
    """
    report = json.loads(status).get("autoscaler_report") or {}
    types = [*(report.get("active_nodes") or {}), *(report.get("pending_launches") or {})]
    return any(not re.fullmatch(r"node_[0-9a-f]+", name) for name in types)


def _holds(node: Node, request: Mapping[str, float], labels: Iterable[tuple[str, str]]) -> bool:
    enough = all(node.resources.get(name, 0.0) >= amount for name, amount in request.items())
    return enough and all(_matches(selector, node.labels.get(key)) for key, selector in labels)


def _matches(selector: str, value: str | None) -> bool:
    """Matches one of Ray's label selectors: ``v``, ``!v``, ``in(v, w)``, ``!in(v, w)``."""
    negated = selector.startswith("!")
    plain = selector.removeprefix("!")
    several = re.fullmatch(r"in\((.*)\)", plain)
    allowed = [each.strip() for each in several[1].split(",")] if several else [plain]
    return (value in allowed) is not negated


def _same(request: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Whether two requests are equal, up to the rounding of Ray's fixed-point numbers."""
    return request.keys() == other.keys() and all(
        math.isclose(amount, other[name], rel_tol=1e-3) for name, amount in request.items()
    )


def _lacking(spec: PoolSpec, cluster: ClusterView) -> str:
    if not cluster.nodes:
        return "there is no node"
    most = {name: _most(cluster, name) for name in request_of(spec)}
    short = [name for name, amount in request_of(spec).items() if most[name] < amount]
    if not short:
        # Some node has each resource, but none has them all, or its labels do not match.
        return "no node has all of that"
    return "the most that a node has is " + ", ".join(_amount(name, most[name]) for name in short)


def _most(cluster: ClusterView, name: str) -> float:
    return max(node.resources.get(name, 0.0) for node in cluster.nodes)


def _wanted(spec: PoolSpec) -> str:
    asked = request_of(spec).items()
    parts = [_amount(name, amount) for name, amount in asked if name != HEAD]
    parts += ["a place beside the embedded database"] if HEAD in dict(spec.resources) else []
    parts += [f"the label {key}={selector}" for key, selector in spec.labels]
    return ", ".join(parts) or "nothing"


def _amount(name: str, amount: float) -> str:
    if name.startswith(ACCELERATOR):
        accelerator = name.removeprefix(ACCELERATOR)
        return f"an accelerator {accelerator}" if amount else f"no accelerator {accelerator}"
    if name == "memory":
        return f"{amount / MIB:g} MiB of memory"
    return f"{amount:g} {name}"
