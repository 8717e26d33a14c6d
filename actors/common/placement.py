"""What an actor needs of a node, and whether a cluster can place it at all: decisions only, no Ray.

An actor that no node has room for *now* waits, and Ray's autoscaler sees it as a demand. One that
no node can ever have waits as well, for ever and in silence, unless somebody says so. Who can tell:
the nodes that are there, by what they have in total; and the autoscaler, which lists the requests
that none of its node types could satisfy. (The first version of Ray's autoscaler keeps no such
list: with that one a request that no present node satisfies waits, and Ray's log says why.)
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
"""What Ray takes of a node's accelerator type for each actor that asks for it."""

HEAD = "node:__internal_head__"
"""Ray's resource of the head node. Who must outlive the comings and goings of workers is placed
there: to the autoscaler a node whose actors reserve nothing is an idle one, and is taken away."""
HEAD_SHARE = 0.0001


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolSpec:
    """What an actor of a pool is made of. Frozen, so that equal ones are one pool.

    Attributes:
        graphs: ids of the graphs that the actors load.
        version: of the code that they load; actors of another version are not adopted.
        runs_per_actor: how many runs one actor executes at once.
        warm: for how many runs free slots are kept ready.
        max_actors: the most actors of this placement, on the whole cluster.
        num_cpus, num_gpus, resources: what Ray reserves for one actor.
        accelerator_type: of the node; empty for any.
        labels: selectors that the node's labels must match.
        memory_mib: what Ray reserves of the node's memory, and resident memory over which the
            actor is ended; 0 for neither.
        max_runs: how many runs an actor executes before it is replaced; 0 for no limit.
    """

    graphs: tuple[str, ...]
    version: str = ""
    runs_per_actor: int = 1
    warm: int = 2
    max_actors: int = 8
    num_cpus: float = 0.0
    num_gpus: float = 0.0
    resources: tuple[tuple[str, float], ...] = ()
    accelerator_type: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    memory_mib: int = 0
    max_runs: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A living node: what it has in total, whoever uses it at the moment."""

    resources: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """A request for which the autoscaler has no type of node."""

    resources: Mapping[str, float]
    labelled: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterView:
    """What a cluster is and could become.

    Attributes:
        nodes: those that are alive.
        autoscales: somebody adds nodes for what waits.
        refused: what the autoscaler can never satisfy, of what waits.
    """

    nodes: tuple[Node, ...]
    autoscales: bool = False
    refused: tuple[Refused, ...] = ()


def request_of(spec: PoolSpec) -> dict[str, float]:
    """What Ray reserves for an actor, under Ray's names."""
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
    """Why no node can ever hold such an actor, as a sentence, or None if one can, or may come."""
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
    """Whether what the first version's monitor reports is of an autoscaler that adds nodes.

    It also reports where there is nothing to add. Then every node is a type of its own, named
    after its id; else types have the names that the cluster's configuration gives them.
    """
    report = json.loads(status).get("autoscaler_report") or {}
    types = [*(report.get("active_nodes") or {}), *(report.get("pending_launches") or {})]
    return any(not re.fullmatch(r"node_[0-9a-f]+", name) for name in types)


def _holds(node: Node, request: Mapping[str, float], labels: Iterable[tuple[str, str]]) -> bool:
    enough = all(node.resources.get(name, 0.0) >= amount for name, amount in request.items())
    return enough and all(_matches(selector, node.labels.get(key)) for key, selector in labels)


def _matches(selector: str, value: str | None) -> bool:
    """Ray's label selectors: ``v``, ``!v``, ``in(v, w)``, ``!in(v, w)``."""
    negated = selector.startswith("!")
    plain = selector.removeprefix("!")
    several = re.fullmatch(r"in\((.*)\)", plain)
    allowed = [each.strip() for each in several[1].split(",")] if several else [plain]
    return (value in allowed) is not negated


def _same(request: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Whether two requests are one; Ray's pass through fixed-point numbers."""
    return request.keys() == other.keys() and all(
        math.isclose(amount, other[name], rel_tol=1e-3) for name, amount in request.items()
    )


def _lacking(spec: PoolSpec, cluster: ClusterView) -> str:
    if not cluster.nodes:
        return "there is no node"
    most = {name: _most(cluster, name) for name in request_of(spec)}
    short = [name for name, amount in request_of(spec).items() if most[name] < amount]
    if not short:
        # Each is somewhere, but nowhere together, or on a node with other labels.
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
