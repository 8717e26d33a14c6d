"""All private names of Ray that the server uses.

No other module of `actors` imports a private module or name of Ray; `tests/test_layers.py` checks
that. (`greenroom.models` is for graphs, imports nothing of ours, and uses one private name itself:
`DeploymentHandle._init`.) Ray may change or drop each name in any release. For each name a test in
`tests/actors/test_ray_internals.py` says what breaks then.
"""
# Private modules have no types and no stubs.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
import ray._private.node
import ray._private.ray_constants as ray_constants
import ray._private.services
import ray._private.utils
import ray._private.worker
import ray.actor
import ray.job_config

# The client of Ray's control service. No public function of Ray lists the requests that its
# autoscaler refused.
from ray._raylet import GcsClient, ObjectID  # pyright: ignore[reportAttributeAccessIssue]

# The control service's answer.
from ray.core.generated.autoscaler_pb2 import (
    GetClusterStatusReply,  # pyright: ignore[reportAttributeAccessIssue]
)

AGENTS_HEAR_BY_PIPE = "RAY_enable_pipe_based_agent_to_parent_health_check"
NOBODY = b"127.0.0.1:9"
"""An address at which nobody answers: that of the discard protocol."""
MONITOR_STATUS_KEY = b"__autoscaling_status"
"""The key of the report (JSON) that the monitor of the autoscaler's first version writes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InfeasibleRequest:
    """A request for which the autoscaler has no type of node.

    Attributes:
        resources: the requested amounts by name.
        is_labelled: whether the request also names labels of a node.
    """

    resources: Mapping[str, float]
    is_labelled: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoscalerState:
    """The state of the autoscaler in Ray's control service.

    Attributes:
        version: the version of the state that an autoscaler of the second version has written; 0
            if there is none.
        infeasible: the requests that this autoscaler can never satisfy.
        monitor_report: the report (JSON) of the first version's monitor; empty if there is none.
    """

    version: int
    infeasible: tuple[InfeasibleRequest, ...]
    monitor_report: bytes


def autoscaler_state(timeout_s: float) -> AutoscalerState:
    """Asks Ray's control service about the autoscaler. Blocks.

    Args:
        timeout_s: seconds for each of the two requests.

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


@contextmanager
def without_unused_processes() -> Generator[None, None, None]:
    """Lets ``ray.init`` start none of what a local Ray does not need: the monitor of the absent
    autoscaler, the server of the disabled dashboard, and the forwarder of logs to the driver.

    They take about 150 MiB, and more than a second of CPU to start. `ray start` has flags for that,
    ``ray.init`` has none.
    """
    node: Any = ray._private.node.Node  # pyright: ignore[reportPrivateUsage]
    own = {name: getattr(node, name) for name in _STARTS_UNUSED}
    for name, nothing in _STARTS_UNUSED.items():
        setattr(node, name, nothing)
    try:
        yield
    finally:
        for name, start in own.items():
            setattr(node, name, start)


def _no_process(node: Any) -> None:
    """Instead of a method of Ray's node that starts a process."""


def _no_dashboard(node: Any, *, include_dashboard: bool | None, raise_on_failure: bool) -> None:
    node._webui_url = ""
    # An agent that finds no address asks for it every second, and logs a traceback each time.
    node.get_gcs_client().internal_kv_put(
        ray_constants.DASHBOARD_ADDRESS.encode(),
        NOBODY,
        True,
        ray_constants.KV_NAMESPACE_DASHBOARD,
    )


_STARTS_UNUSED = {
    "start_monitor": _no_process,
    "start_log_monitor": _no_process,
    "start_api_server": _no_dashboard,
}


def job_without_search_path() -> Any:
    """Returns the ``job_config`` of a job whose processes do not get the working directory.

    Ray would put that of the starting process before the standard library in each of them, and a
    project's ``email.py`` would be what Ray itself imports.
    """
    job = ray.job_config.JobConfig()
    job._py_driver_sys_path = _Closed()  # pyright: ignore[reportPrivateUsage]
    return job


@contextmanager
def staying_local() -> Generator[None, None, None]:
    """Lets ``ray.init`` take 127.0.0.1 for the address of its node, and listen there only.

    Ray replaces that address by one of the network, on which then some twenty ports listen.
    """
    services: Any = ray._private.services  # pyright: ignore[reportPrivateUsage]
    resolve = services.resolve_ip_for_localhost
    services.resolve_ip_for_localhost = _itself
    try:
        yield
    finally:
        services.resolve_ip_for_localhost = resolve


def _itself(host: str) -> str:
    return host


@contextmanager
def starting_processes_by(program: str, *, minimal: bool) -> Generator[None, None, None]:
    """Has the Ray that ``ray.init`` starts in this block use another program for each actor and
    for the raylet's agents.

    Args:
        program: the path of a Python program that takes the arguments of Ray's own; before those of
            an agent comes the path of the agent's program.
        minimal: whether the agent that serves the dashboard gets the argument ``--minimal``, as
            where Ray is installed without the dashboard's libraries: it collects no metrics and
            listens nowhere. Its process has to call `leave_out_dashboard`.
    """
    services: Any = ray._private.services  # pyright: ignore[reportPrivateUsage]
    start_raylet = services.start_raylet
    interpreter = services._build_python_executable_command_memory_profileable
    utils: Any = ray._private.utils  # pyright: ignore[reportPrivateUsage]
    missing = utils.get_dashboard_dependency_error

    def by_program(*args: Any, **kwargs: Any) -> list[str]:
        return [*interpreter(*args, **kwargs), program]

    def start(*args: Any, **kwargs: Any) -> Any:
        call = inspect.signature(start_raylet).bind(*args, **kwargs)
        call.arguments["worker_path"] = program
        services._build_python_executable_command_memory_profileable = by_program
        if minimal:
            utils.get_dashboard_dependency_error = ImportError
        try:
            return start_raylet(*call.args, **call.kwargs)
        finally:
            services._build_python_executable_command_memory_profileable = interpreter
            utils.get_dashboard_dependency_error = missing

    services.start_raylet = start
    # An agent is told of the raylet's end by a pipe: it would take the parent of a fork for it.
    os.environ.setdefault(AGENTS_HEAR_BY_PIPE, "1")
    try:
        yield
    finally:
        services.start_raylet = start_raylet


def leave_out_dashboard() -> None:
    """Lets the agent in this process find no module of the dashboard.

    With ``--minimal`` it uses none of them, and would import them all.
    """
    from ray.dashboard import modules

    modules.__path__ = []


@contextmanager
def asking_serve_often(interval_s: float) -> Generator[None, None, None]:
    """Has ``serve.run`` in this block ask so often whether what it deploys is running.

    It asks every second, which a start waits for.
    """
    # Most processes that import this module do not import Serve.
    from ray.serve._private import client as serve_client

    client: Any = serve_client
    own = client.CLIENT_POLLING_INTERVAL_S
    client.CLIENT_POLLING_INTERVAL_S = interval_s
    try:
        yield
    finally:
        client.CLIENT_POLLING_INTERVAL_S = own


def on_replacement(told: Callable[[], None]) -> None:
    """Has Serve call ``told`` when it begins to end the replica in this process.

    Serve tells a replica by `__del__` only, which it calls when no request is left.

    Args:
        told: called in the replica's event loop, which need not be that of the deployment's code;
            once more if Serve's controller is restarted meanwhile.
    """
    worker: Any = ray._private.worker.global_worker  # pyright: ignore[reportPrivateUsage]
    replica: Any = worker.actors[worker.actor_id]._replica_impl
    end = replica.perform_graceful_shutdown

    async def tell_and_end() -> None:
        told()
        await end()

    replica.perform_graceful_shutdown = tell_and_end


@contextmanager
def classes_without_chance() -> Generator[None, None, None]:
    """Lets modules with classes of actors be imported before a fork.

    Ray gives each class a random id. The generator of Ray's library is seeded at its first use, so
    the forks of a process that has used it would have the same "random" ids, also of objects.
    """
    actor: Any = ray.actor
    own = actor.ActorClassID
    actor.ActorClassID = _ActorClassIds(own)
    try:
        yield
    finally:
        actor.ActorClassID = own


class _ActorClassIds:
    """Ids of classes of actors, by the randomness of the operating system."""

    def __init__(self, own: Any) -> None:
        self._own = own

    def from_random(self) -> Any:
        return self._own(os.urandom(self._own.size()))


def random_id() -> bytes:
    """Returns a random id by the generator of Ray's library."""
    return ObjectID.from_random().binary()


class _Closed(list[str]):
    """A list that stays empty."""

    def extend(self, iterable: Iterable[str], /) -> None:
        pass
