"""The cluster as Ray reports it: its nodes and its autoscaler."""

from __future__ import annotations

import ray

from actors.calls import ray_internals
from actors.common.placement import ClusterView, Node, Refused, adds_nodes

STATUS_WAIT_S = 5.0


def cluster_view() -> ClusterView:
    """Returns the cluster's living nodes and the state of its autoscaler. Blocks.

    Raises:
        ray.exceptions.RpcError: Ray's control service does not answer in time.
    """
    nodes = tuple(
        Node(resources=each["Resources"], labels=each.get("Labels") or {})
        for each in ray.nodes()
        if each["Alive"]
    )
    state = ray_internals.autoscaler_state(STATUS_WAIT_S)
    return ClusterView(
        nodes=nodes,
        autoscales=state.version > 0 or adds_nodes(state.monitor_report or b"{}"),
        refused=tuple(
            Refused(resources=dict(each.resources), labelled=each.is_labelled)
            for each in state.infeasible
        ),
    )
