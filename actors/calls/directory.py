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
import inspect
import logging
import os
import sys
from collections.abc import Callable
from typing import Any, cast

import ray
import ray.actor
import ray.util
from ray.exceptions import RayError

from actors.calls.answers import (
    CALL_S,
    ActorGone,
    NodeGone,
    answer,
    is_repeatable,
    no_answer,
    repeatable,
)
from actors.calls.cluster import cluster_view
from actors.calls.names import (
    INSPECTOR,
    REGISTRY,
    is_inspector,
    is_registry,
    is_run_actor,
    new_run_actor_name,
    registry_name,
    shard_of,
)
from actors.calls.rpc import Lost, NotSent, RpcAddress, RpcClient
from actors.common.placement import HEAD, HEAD_SHARE, MIB, ClusterView, PoolSpec
from actors.common.setup import InspectorSetup, RegistrySetup
from greenroom.core.errors import Uncertain, Unreachable

log = logging.getLogger("greenroom.handles")

RECONNECT_S = 1.0
"""From the end of a connection to an actor to the next one; until then it is called through Ray."""
NO_ADDRESS_S = 60.0
"""How long an actor that has no address of its own is not asked for it again."""
ADDRESS_WAIT_S = 30.0

_RUN_GROUPS = {
    "execute": ("prepare", "start_many", "drain"),
    "control": ("cancel", "beat", "adopt"),
    "read": ("read", "outcome", "alive", "address", "retire"),
}
"""Concurrency groups of a run actor, each with a thread and loop of its own: a node that blocks
`execute` neither delays a cancel nor a reader, and thousands of pending reads do not delay a
cancel."""

_RUN_ONCE = frozenset({"prepare"})
"""The methods of a run actor, or an inspector, that are not repeatable; all others are declared so
where they are."""

_INSPECTOR_GROUPS = {
    "execute": ("prepare", "ask", "update", "settle", "prune"),
    "control": ("beat", "adopt", "alive", "leave"),
}
"""Those of an inspector. Its graphs' code has threads of its own, apart from when it is loaded."""

_GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "RunActor": _RUN_GROUPS,
    "Inspector": _INSPECTOR_GROUPS,
}

_GROUP_LIMITS = {"execute": 100_000, "control": 1_000, "read": 100_000}


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
            Unreachable: Ray cannot say; nothing was asked of the actor.
        """
        handle = self._known.get(name)
        if handle is None:
            try:
                handle = ray.get_actor(name, namespace=self.namespace)
            except ValueError:
                raise ActorGone(name) from None
            except RayError as error:
                raise no_answer(error, name) from None
            self._known[name] = handle
        return handle

    async def find(self, name: str) -> ray.actor.ActorHandle:
        """Like `get`, without stopping the loop for the look-up of a name not seen before."""
        if name in self._known:
            return self._known[name]
        return await asyncio.to_thread(self.get, name)

    def forget(self, name: str) -> None:
        """Drops all that is kept for an actor: handle, connection, and the task that holds it.
        From any thread."""
        self._known.pop(name, None)
        client = self._clients.pop(name, None)
        if client is not None:
            client.close()
        connecting = self._connecting.pop(name, None)
        if connecting is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed, and the task with it
                connecting.get_loop().call_soon_threadsafe(connecting.cancel)

    async def call(
        self, name: str, method: str, *args: Any, within_s: float | None = CALL_S
    ) -> Any:
        """Calls an actor: over a connection of its own once there is one, else through Ray.

        A call that was lost with its connection is made again, through Ray, if its method is
        declared `repeatable`.

        Args:
            within_s: how long the answer may take; a long poll's own wait and a margin. None waits
                for ever, which the caller gives a reason for.

        Raises:
            ActorGone, Unreachable: as `answer`. It may be called again.
            Uncertain: the same, of a method that must not be executed twice.
        """
        deadline = asyncio.timeout(within_s)
        try:
            async with deadline:
                return await self._call(name, method, args)
        except TimeoutError:
            if not deadline.expired():
                raise  # the actor's own
            self._refuse_to_repeat(name, method)
            raise Unreachable(
                f"Actor {name} did not answer '{method}' within {within_s:g} s."
            ) from None

    async def _call(self, name: str, method: str, args: tuple[Any, ...]) -> Any:
        client = self._clients.get(name)
        if client is None:
            self.connect(name)
        elif method in client.methods:
            try:
                return await client.call(method, args)
            except NotSent:
                pass  # Ray takes what is too large for a frame, and knows whether it is dead
            except Lost:
                self._refuse_to_repeat(name, method)
        handle = await self.find(name)
        try:
            return await answer(_remote(handle, method, args), name)
        except ActorGone:
            self.forget(name)
            self._refuse_to_repeat(name, method)
            raise
        except Unreachable:
            self._known.pop(name, None)
            self._refuse_to_repeat(name, method)
            raise

    def _refuse_to_repeat(self, name: str, method: str) -> None:
        """Raises Uncertain for a method that must not be executed twice."""
        if not is_repeatable(_declared(name, method)):
            raise Uncertain(
                "The server lost a process while it did this, and does not know whether it was"
                " done. Look before you ask again."
            )

    def connect(self, name: str) -> None:
        """Opens a connection to an actor, unless there is one or was one a moment ago."""
        if name in self._connecting or _encrypted():
            return
        task = self._connecting[name] = asyncio.create_task(self._connected(name))

        def done(task: asyncio.Task[None]) -> None:
            if self._connecting.get(name) is task:
                del self._connecting[name]

        task.add_done_callback(done)

    async def _connected(self, name: str) -> None:
        """Holds a connection while the actor lives, then waits before the next one may be made."""
        pause_s = RECONNECT_S
        try:
            pause_s = await self._hold_connection(name)
        except ActorGone:
            self._known.pop(name, None)
            if not is_registry(name):
                return  # its name is never used again
        except Exception as error:  # noqa: BLE001 - whatever it is, calls go through Ray meanwhile
            log.info("no connection to an actor", extra={"actor": name, "reason": str(error)})
        await asyncio.sleep(pause_s)

    async def _hold_connection(self, name: str) -> float:
        """Connects, and stays until the connection is lost; how long to pause then.

        Raises:
            ActorGone: Ray says that the actor is dead.
        """
        handle = await self.find(name)
        address: RpcAddress | None = await answer(
            _remote(handle, "address", ()), name, within_s=ADDRESS_WAIT_S
        )
        if address is None:
            return NO_ADDRESS_S
        client = await RpcClient.connect(address)
        self._clients[name] = client
        watched: list[asyncio.Future[Any]] = [asyncio.ensure_future(client.until_lost())]
        try:
            if not is_registry(name):
                # Its process may go on while its node counts as lost.
                watched.append(asyncio.ensure_future(answer(_remote(handle, "alive", ()), name)))
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.result()
        finally:
            for future in watched:
                future.cancel()
            await asyncio.gather(*watched, return_exceptions=True)
            client.close()
            if self._clients.get(name) is client:
                del self._clients[name]
        return RECONNECT_S

    def names(self) -> list[str]:
        """Every named actor that is alive in the namespace."""
        entries = cast("list[dict[str, str]]", ray.util.list_named_actors(all_namespaces=True))
        return [entry["name"] for entry in entries if entry["namespace"] == self.namespace]

    def kill(self, name: str) -> None:
        """Ends an actor's process at once; no goodbye. Killing who is gone is fine."""
        with contextlib.suppress(ActorGone, Unreachable, RayError):
            ray.kill(self.get(name), no_restart=True)
        self.forget(name)

    def cluster_view(self) -> ClusterView:
        """What the cluster has, and whether an autoscaler may add to it. Blocks."""
        return cluster_view()

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
        name = registry_name(setup.shard.number)
        handle: Any = (
            ray.remote(_registry_class())
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
    """`actors.run.actor.RunActor` as a Ray actor class."""

    def make(setup: Any) -> Any:
        from actors.run.actor import RunActor

        return RunActor(setup)

    return _shell("RunActor", make)


@functools.cache
def _inspector_class() -> Any:
    """`actors.inspector.actor.Inspector` as a Ray actor class."""

    def make(setup: Any) -> Any:
        from actors.inspector.actor import Inspector

        return Inspector(setup)

    return _shell("Inspector", make)


def _shell(title: str, make: Callable[[Any], Any]) -> Any:
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

    limits = {group: _GROUP_LIMITS[group] for group in _GROUPS[title]}
    shell = type(title, (), {**_methods(title), "__init__": fill, "__module__": __name__})
    return ray.remote(concurrency_groups=limits)(shell)  # pyright: ignore


@functools.cache
def _methods(title: str) -> dict[str, Any]:
    return {
        name: ray.method(concurrency_group=group)(_forwarding(name))
        for group, names in _GROUPS[title].items()
        for name in names
    }


def _forwarding(name: str) -> Any:
    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await getattr(self.inside, name)(*args, **kwargs)

    method.__name__ = name
    return method if name in _RUN_ONCE else repeatable(method)


@functools.cache
def _registry_class() -> type:
    """`actors.registry.actor.RegistryActor`; of its methods Ray itself repeats the repeatable ones
    only, for those that have a handle and not `Handles`."""
    from actors.registry.actor import RegistryActor

    for name, method in inspect.getmembers(RegistryActor, inspect.iscoroutinefunction):
        if not name.startswith("_") and not is_repeatable(method):
            ray.method(max_task_retries=0)(method)
    return RegistryActor


def _declared(actor: str, method: str) -> object:
    """A method as it is declared, of a registry or an actor that it has made."""
    if is_registry(actor):
        return getattr(_registry_class(), method, None)
    return _methods("Inspector" if is_inspector(actor) else "RunActor").get(method)


def _remote(handle: Any, method: str, args: tuple[Any, ...]) -> Any:
    """Calls through Ray, which must not repeat by itself: only `repeat` does."""
    return getattr(handle, method).options(max_task_retries=0).remote(*args)


def _encrypted() -> bool:
    """Whether Ray encrypts what its actors say."""
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")


def rpc_host() -> str | None:
    """The address of this node to listen on; None where Ray encrypts what its actors say."""
    return None if _encrypted() else ray.util.get_node_ip_address()


__all__ = [
    "INSPECTOR",
    "REGISTRY",
    "ActorGone",
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
