"""Everything private of Ray that the server uses, in one place.

Nothing else in `actors` imports a private module or name of Ray; `tests/test_layers.py` looks for
that. (`greenroom.models` is for graphs, imports nothing of ours, and has one of its own: it calls
`DeploymentHandle._init`.) Ray may change or drop each name in any release. For each there is a test
in `tests/actors/test_ray_internals.py` that says what breaks then.
"""
# What is private has no types, and no stubs.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import ray
import ray._private.worker

# The client of Ray's control service. Ray has no public way to ask what its autoscaler refused.
from ray._raylet import GcsClient  # pyright: ignore[reportAttributeAccessIssue]

# What the control service answers to that.
from ray.core.generated.autoscaler_pb2 import (
    GetClusterStatusReply,  # pyright: ignore[reportAttributeAccessIssue]
)

MONITOR_STATUS_KEY = b"__autoscaling_status"
"""Where the monitor of the first version's autoscaler leaves its report, as JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InfeasibleRequest:
    """A request for which the autoscaler has no type of node.

    Attributes:
        resources: what is asked for, by name.
        is_labelled: it also asks for labels of a node.
    """

    resources: Mapping[str, float]
    is_labelled: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoscalerState:
    """What Ray's control service knows of the autoscaler.

    Attributes:
        version: of the state that an autoscaler of the second version has left; 0: there is none.
        infeasible: what that autoscaler can never satisfy.
        monitor_report: what the monitor of the first version has left, as JSON; empty: nothing.
    """

    version: int
    infeasible: tuple[InfeasibleRequest, ...]
    monitor_report: bytes


def autoscaler_state(timeout_s: float) -> AutoscalerState:
    """Asks Ray's control service about the autoscaler. Blocks.

    Args:
        timeout_s: for each of the two questions.

    Raises:
        ray.exceptions.RpcError: the control service does not answer in time.
    """
    client: Any = GcsClient(address=ray.get_runtime_context().gcs_address)
    reply: Any = GetClusterStatusReply()
    reply.ParseFromString(client.get_cluster_status(timeout_s=timeout_s))
    state = reply.autoscaling_state
    report = client.internal_kv_get(MONITOR_STATUS_KEY, None, timeout=timeout_s)
    return AutoscalerState(
        version=state.autoscaler_state_version,
        infeasible=tuple(
            InfeasibleRequest(
                resources=dict(each.resources_bundle),
                is_labelled=any(s.label_constraints for s in each.label_selectors),
            )
            for each in state.infeasible_resource_requests
        ),
        monitor_report=report or b"",
    )


def end_onlookers() -> None:
    """Ends the processes of a local Ray that nobody here asks.

    They are the monitor of an autoscaler that is not there, the server of a dashboard that is off,
    and the carrier of logs to a driver that wants none: about 150 MiB. `ray start` has flags for
    that, ``ray.init`` has none, so its node is told to.
    """
    node = getattr(ray._private.worker, "_global_node", None)  # pyright: ignore
    for kind in ("monitor", "dashboard", "log_monitor"):
        end = getattr(node, f"kill_{kind}", None)
        if end is not None:
            end(check_alive=False)


def leave_out_command_line_of_httpx() -> None:
    """Has httpx not load its command line in this process; call it before httpx is imported.

    LangGraph imports httpx, and that imports its command line where rich is installed: 4 MiB and a
    tenth of a second for nothing. Without it httpx says so to whoever calls ``httpx.main``. (It is
    httpx's private name, and stands here because it belongs to the start of an actor.)
    """
    sys.modules.setdefault("httpx._main", cast(Any, None))
