"""Ray, in one place: names, options, handles, and Ray's exceptions turned into ours.

Everything else in `actors` is plain classes. An actor's *name* travels between processes, never its
handle (a handle in a call costs the receiver more than the call); handles are cached here by name.
Run-actor names are unique and never reused, so a name that is gone stays gone: for some
milliseconds after a death Ray still gives out the dead actor under its name.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import sys
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import ray
import ray.actor
import ray.util
from ray._raylet import GcsClient  # pyright: ignore[reportAttributeAccessIssue]
from ray.core.generated.autoscaler_pb2 import (
    GetClusterStatusReply,  # pyright: ignore[reportAttributeAccessIssue]
)
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    GetTimeoutError,
    RayActorError,
    RayError,
    RayTaskError,
)

from actors.placement import HEAD, HEAD_SHARE, MIB, ClusterView, Node, Refused, adds_nodes
from actors.pool import PoolSpec
from actors.rpc import Lost, RpcAddress, RpcClient
from actors.setup import InspectorSetup, RegistrySetup
from greenroom.core.errors import GreenroomError, Unavailable

log = logging.getLogger("greenroom.handles")

REGISTRY = "registry"
"""The one registry, or the first of several."""
INSPECTOR = "inspector"
RUN_PREFIX = "run-"

AUTOSCALING_STATUS = b"__autoscaling_status"
STATUS_WAIT_S = 5.0
RECONNECT_S = 1.0
"""From the end of a connection to an actor to the next one; until then it is called through Ray."""

T = TypeVar("T")

_RUN_GROUPS = {
    "execute": ("prepare", "start_many", "drain"),
    "control": ("cancel", "beat", "adopt"),
    "read": ("read", "outcome", "alive", "address", "retire"),
}
"""Concurrency groups of a run actor, each with a thread and loop of its own: a node that blocks
`execute` neither delays a cancel nor a reader, and thousands of pending reads do not delay a
cancel."""

_INSPECTOR_GROUPS = {
    "execute": ("prepare", "ask", "update", "settle", "prune"),
    "control": ("beat", "adopt", "alive", "leave"),
}
"""Those of an inspector. Its graphs' code has threads of its own, apart from when it is loaded."""

_GROUP_LIMITS = {"execute": 100_000, "control": 1_000, "read": 100_000}


class ActorGone(GreenroomError):
    """The actor is dead; Ray said so. Carries the actor's name."""

    @property
    def name(self) -> str:
        return self.message


class NodeGone(ActorGone):
    """It is dead because its whole node is."""


async def answer(ref: Awaitable[T], actor: str) -> T:
    """Waits for a call's answer.

    Raises:
        ActorGone: the actor died, before or during the call.
        Unavailable: it cannot be reached right now; it may or may not have done what was asked.
        GreenroomError: what the actor raised, itself.
    """
    try:
        return await ref
    except RayTaskError as error:
        raise _cause(error) from None
    except ActorUnavailableError as error:
        raise Unavailable(f"Actor {actor} cannot be reached: {_first_line(error)}") from None
    except RayActorError as error:
        # Ray says why in its message only.
        raise (NodeGone if "its node has died" in str(error) else ActorGone)(actor) from None


def _cause(error: RayTaskError) -> BaseException:
    """What was raised on the other side; its ``str()`` on this side would be Ray's traceback."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, Exception) else error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


class Handles:
    """Finds, makes and ends the actors of one namespace.

    Args:
        namespace: Ray namespace; always given, so that two servers on a cluster stay apart.
    """

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._known: dict[str, ray.actor.ActorHandle] = {}
        self._clients: dict[str, RpcClient] = {}
        self._connecting: dict[str, asyncio.Task[None]] = {}

    def get(self, name: str) -> ray.actor.ActorHandle:
        """The handle of a living actor.

        Raises:
            ActorGone: there is none of this name.
        """
        handle = self._known.get(name)
        if handle is None:
            try:
                handle = ray.get_actor(name, namespace=self.namespace)
            except ValueError:
                raise ActorGone(name) from None
            self._known[name] = handle
        return handle

    async def find(self, name: str) -> ray.actor.ActorHandle:
        """Like `get`, without stopping the loop for the look-up of a name not seen before."""
        if name in self._known:
            return self._known[name]
        return await asyncio.to_thread(self.get, name)

    def forget(self, name: str) -> None:
        self._known.pop(name, None)
        client = self._clients.pop(name, None)
        if client is not None:
            client.close()

    async def call(self, name: str, method: str, *args: Any) -> Any:
        """Calls an actor: over a connection of its own once there is one, else through Ray.

        Args:
            method: one that may be executed twice.

        Raises:
            As `answer`.
        """
        client = self._clients.get(name)
        if client is None:
            self.connect(name)
        elif method in client.methods:
            # Lost: it may be dead, and Ray says so.
            with contextlib.suppress(Lost):
                return await client.call(method, args)
        handle = await self.find(name)
        return await answer(getattr(handle, method).remote(*args), name)

    def connect(self, name: str) -> None:
        """Opens a connection to an actor, unless there is one or was one a moment ago."""
        if name not in self._connecting:
            task = self._connecting[name] = asyncio.create_task(self._connected(name))
            task.add_done_callback(lambda _: self._connecting.pop(name))

    async def _connected(self, name: str) -> None:
        """Connects, and stays until the connection is lost or Ray says that the actor is dead."""
        client = None
        watched: list[asyncio.Future[Any]] = []
        try:
            handle = await self.find(name)
            address: RpcAddress | None = await answer(handle.address.remote(), name)
            if address is None:
                await asyncio.Event().wait()  # it is called through Ray, and not asked again
                return
            client = self._clients[name] = await RpcClient.connect(address)
            watched = [asyncio.ensure_future(client.until_lost())]
            if not is_registry(name):
                # Its process may go on while its node counts as lost.
                watched.append(asyncio.ensure_future(answer(handle.alive.remote(), name)))
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        except (GreenroomError, OSError, TimeoutError) as error:
            log.info("no connection to an actor", extra={"actor": name, "reason": str(error)})
        finally:
            for future in watched:
                future.cancel()
            await asyncio.gather(*watched, return_exceptions=True)
            if client is not None:
                client.close()
                if self._clients.get(name) is client:
                    del self._clients[name]
        await asyncio.sleep(RECONNECT_S)

    def names(self) -> list[str]:
        """Every named actor that is alive in the namespace."""
        entries = cast("list[dict[str, str]]", ray.util.list_named_actors(all_namespaces=True))
        return [entry["name"] for entry in entries if entry["namespace"] == self.namespace]

    def kill(self, name: str) -> None:
        """Ends an actor's process at once; no goodbye. Killing who is gone is fine."""
        with contextlib.suppress(ActorGone, RayError):
            ray.kill(self.get(name), no_restart=True)
        self.forget(name)

    def cluster_view(self) -> ClusterView:
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

    # --- making actors -------------------------------------------------------------------------

    def make_run_actor(self, name: str, setup: Any, spec: PoolSpec) -> None:
        """Starts a run actor's process; `prepare` says when it has loaded its graphs. Blocks."""
        self._known[name] = (
            _run_actor_class()
            .options(
                name=name,
                namespace=self.namespace,
                lifetime="detached",
                max_restarts=0,
                num_cpus=spec.num_cpus,
                num_gpus=spec.num_gpus,
                resources=dict(spec.resources),
                memory=spec.memory_mib * MIB or None,
                accelerator_type=spec.accelerator_type or None,
                label_selector=dict(spec.labels) or None,
                enable_task_events=False,
            )
            .remote(setup)
        )

    def make_inspector(self, name: str, setup: InspectorSetup) -> None:
        """Starts an inspector's process; `prepare` says when it has loaded its graphs. Blocks."""
        self._known[name] = (
            _inspector_class()
            .options(
                name=name,
                namespace=self.namespace,
                lifetime="detached",
                max_restarts=0,
                num_cpus=0,
                resources=dict(setup.spec.resources),
                enable_task_events=False,
            )
            .remote(setup)
        )

    def make_registry(self, setup: RegistrySetup) -> ray.actor.ActorHandle:
        """A registry of this namespace, made unless it is there."""
        from actors.registry import RegistryActor

        name = registry_name(setup.shard.number)
        handle: Any = (
            ray.remote(RegistryActor)
            .options(
                name=name,
                namespace=self.namespace,
                lifetime="detached",
                get_if_exists=True,
                max_restarts=-1,
                max_task_retries=-1,
                max_concurrency=100_000,
                num_cpus=0,
                resources={HEAD: HEAD_SHARE},
                enable_task_events=False,
            )
            .remote(setup)
        )
        self._known[name] = handle
        return handle


@functools.cache
def _run_actor_class() -> Any:
    """`actors.run.RunActor` as a Ray actor class."""

    def make(setup: Any) -> Any:
        from actors.run import RunActor

        return RunActor(setup)

    return _shell("RunActor", make, _RUN_GROUPS)


@functools.cache
def _inspector_class() -> Any:
    """`actors.inspector.Inspector` as a Ray actor class."""

    def make(setup: Any) -> Any:
        from actors.inspector import Inspector

        return Inspector(setup)

    return _shell("Inspector", make, _INSPECTOR_GROUPS)


def _shell(title: str, make: Callable[[Any], Any], groups: dict[str, tuple[str, ...]]) -> Any:
    """A Ray actor class whose methods are spread over concurrency groups.

    Whoever has a handle loads the class: gateways and the registry too, and they must not load
    LangGraph with it (half a second and 50 MiB). So the class that Ray knows is a shell, and what
    is in it comes with its process.

    To be made once in a process: Ray disassembles, pickles and exports each class that it meets.
    """

    def fill(self: Any, setup: Any) -> None:
        # LangGraph loads httpx, and that its command line, if rich is there: 4 MiB and a tenth of a
        # second for nothing. Absent, httpx says so to whoever calls `httpx.main`.
        sys.modules.setdefault("httpx._main", cast(Any, None))
        self.inside = make(setup)

    methods = {
        name: ray.method(concurrency_group=group)(_forwarding(name))
        for group, names in groups.items()
        for name in names
    }
    limits = {group: _GROUP_LIMITS[group] for group in groups}
    shell = type(title, (), {**methods, "__init__": fill, "__module__": __name__})
    return ray.remote(concurrency_groups=limits)(shell)  # pyright: ignore


def _forwarding(name: str) -> Any:
    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await getattr(self.inside, name)(*args, **kwargs)

    method.__name__ = name
    return method


def rpc_host() -> str | None:
    """The address of this node to listen on; None where Ray encrypts what its actors say."""
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return None
    return ray.util.get_node_ip_address()


def registry_name(shard: int) -> str:
    return f"{REGISTRY}-{shard}" if shard else REGISTRY


def is_registry(name: str) -> bool:
    return name == REGISTRY or name.startswith(f"{REGISTRY}-")


def new_run_actor_name(shard: int = 0) -> str:
    name = RUN_PREFIX + uuid.uuid4().hex[:12]
    return f"{name}-{shard}" if shard else name


def is_run_actor(name: str) -> bool:
    return name.startswith(RUN_PREFIX)


def shard_of(run_actor: str) -> int:
    """The registry that has made a run actor."""
    _, _, shard = run_actor.removeprefix(RUN_PREFIX).partition("-")
    return int(shard or 0)


__all__ = [
    "INSPECTOR",
    "REGISTRY",
    "ActorDiedError",
    "ActorGone",
    "GetTimeoutError",
    "Handles",
    "NodeGone",
    "answer",
    "is_registry",
    "is_run_actor",
    "new_run_actor_name",
    "registry_name",
    "rpc_host",
    "shard_of",
]
