"""What Ray knows of the cluster: the one place that asks its control service directly."""

from __future__ import annotations

import ray
from ray._raylet import GcsClient  # pyright: ignore[reportAttributeAccessIssue]
from ray.core.generated.autoscaler_pb2 import (
    GetClusterStatusReply,  # pyright: ignore[reportAttributeAccessIssue]
)

from actors.common.placement import ClusterView, Node, Refused, adds_nodes

AUTOSCALING_STATUS = b"__autoscaling_status"
STATUS_WAIT_S = 5.0


def cluster_view() -> ClusterView:
    """What the cluster has, and whether an autoscaler may add to it. Blocks."""
    nodes = tuple(
        Node(resources=each["Resources"], labels=each.get("Labels") or {})
        for each in ray.nodes()
        if each["Alive"]
    )
    client = GcsClient(address=ray.get_runtime_context().gcs_address)
    reply = GetClusterStatusReply()
    reply.ParseFromString(client.get_cluster_status(timeout_s=STATUS_WAIT_S))
    state = reply.autoscaling_state
    status = client.internal_kv_get(AUTOSCALING_STATUS, None, timeout=STATUS_WAIT_S)
    return ClusterView(
        nodes=nodes,
        autoscales=state.autoscaler_state_version > 0 or adds_nodes(status or b"{}"),
        refused=tuple(
            Refused(
                resources=dict(each.resources_bundle),
                labelled=any(s.label_constraints for s in each.label_selectors),
            )
            for each in state.infeasible_resource_requests
        ),
    )
