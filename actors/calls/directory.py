"""The directory of actors: finds an actor by its name, calls it, ends it.

The other modules of `actors` hold plain classes, except `actors.spawn` and `actors.registries`,
which make actors. Processes exchange an actor's *name*, never its handle (a handle in a call costs
the receiver more than the call); this module caches handles by name. Names of run actors are unique
and never reused. For some milliseconds after a death Ray still returns the dead actor for its name.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import Any, cast

import ray
import ray.actor
import ray.util
from ray.exceptions import RayError

from actors.calls.answers import CALL_S, ActorGone, answer, no_answer
from actors.calls.cluster import cluster_view
from actors.calls.names import is_registry
from actors.calls.once import may_be_repeated
from actors.calls.rpc import Lost, NotSent, RpcAddress, RpcClient
from actors.common.placement import ClusterView
from greenroom.core.errors import Uncertain, Unreachable
from greenroom.core.waiting import cancelled

log = logging.getLogger("greenroom.handles")

RECONNECT_S = 1.0
"""The pause after a lost connection to an actor; meanwhile calls go through Ray."""
NO_ADDRESS_S = 60.0
"""The pause before an actor without an address is asked for its address again."""
ADDRESS_WAIT_S = 30.0


class Handles:
    """Finds, calls and ends the actors of one namespace.

    Args:
        namespace: the Ray namespace, which separates the servers of a cluster.

    Attributes:
        known: the cached handles, by name.
        connections: the open connections, by name.
        connecting: the tasks that open and hold connections, or pause after one, by name.
    """

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.known: dict[str, ray.actor.ActorHandle] = {}
        self.connections: dict[str, RpcClient] = {}
        self.connecting: dict[str, asyncio.Task[None]] = {}

    def get(self, name: str) -> ray.actor.ActorHandle:
        """Returns the handle of an actor. Blocks if the name is not cached.

        Raises:
            ActorGone: there is no actor of this name.
            Unreachable: the look-up failed; the actor was not called.
        """
        handle = self.known.get(name)
        if handle is None:
            try:
                handle = ray.get_actor(name, namespace=self.namespace)
            except ValueError:
                raise ActorGone(name) from None
            except RayError as error:
                raise no_answer(error, name) from None
            self.known[name] = handle
        return handle

    def keep(self, name: str, handle: ray.actor.ActorHandle) -> None:
        """Caches the handle of a new actor; its maker calls this."""
        self.known[name] = handle

    async def find(self, name: str) -> ray.actor.ActorHandle:
        """Like `get`, but looks up an uncached name in a thread, without blocking the loop."""
        if name in self.known:
            return self.known[name]
        return await asyncio.to_thread(self.get, name)

    def forget(self, name: str) -> None:
        """Drops an actor's cached handle, its connection and the task that holds the connection.
        Thread-safe."""
        self.known.pop(name, None)
        client = self.connections.pop(name, None)
        if client is not None:
            client.close()
        connecting = self.connecting.pop(name, None)
        if connecting is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed, and the task with it
                connecting.get_loop().call_soon_threadsafe(connecting.cancel)

    async def call(
        self, name: str, method: str, *args: Any, within_s: float | None = CALL_S
    ) -> Any:
        """Calls an actor: over its socket connection if there is one, else through Ray.

        If the connection is lost during the call and the method is `repeatable`, the call is
        repeated through Ray.

        Args:
            name: the actor's name.
            method: the method's name.
            within_s: the time-out in seconds; of a long poll, its own wait plus a margin. None
                waits without a limit; the caller gives the reason in a comment.

        Returns:
            the method's result.

        Raises:
            ActorGone, Unreachable: as `answer`; the caller may repeat the call.
            Uncertain: the same failures for a method that must not be executed twice.
            Exception: the exception that the method raised.
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
        client = self.connections.get(name)
        if client is None:
            self.connect(name)
        elif method in client.methods:
            try:
                return await client.call(method, args)
            except NotSent:
                pass  # Ray accepts larger arguments, and knows whether the actor is dead
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
            self.known.pop(name, None)
            self._refuse_to_repeat(name, method)
            raise

    def _refuse_to_repeat(self, name: str, method: str) -> None:
        """Raises `Uncertain` for a method that must not be executed twice."""
        if not may_be_repeated(name, method):
            raise Uncertain(
                "The server lost a process while it did this, and does not know whether it was"
                " done. Look before you ask again."
            )

    def connect(self, name: str) -> None:
        """Opens a connection to an actor in the background, unless there is one or one was lost
        within `RECONNECT_S`. Does nothing where Ray encrypts its traffic."""
        if name in self.connecting or _encrypted():
            return
        task = self.connecting[name] = asyncio.create_task(self._connected(name))

        def done(task: asyncio.Task[None]) -> None:
            if self.connecting.get(name) is task:
                del self.connecting[name]

        task.add_done_callback(done)

    async def _connected(self, name: str) -> None:
        """Holds a connection while the actor lives, then pauses before the next connection."""
        pause_s = RECONNECT_S
        try:
            pause_s = await self._hold_connection(name)
        except ActorGone:
            self.known.pop(name, None)
            if not is_registry(name):
                return  # its name is never used again
        except Exception as error:  # noqa: BLE001 - after any failure calls go through Ray
            log.info("no connection to an actor", extra={"actor": name, "reason": str(error)})
        await asyncio.sleep(pause_s)

    async def _hold_connection(self, name: str) -> float:
        """Connects and waits until the connection is lost; returns the pause after it, in seconds.

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
        self.connections[name] = client
        watched: list[asyncio.Future[Any]] = [asyncio.ensure_future(client.until_lost())]
        try:
            if not is_registry(name):
                # The process may continue although Ray counts its node as lost.
                watched.append(asyncio.ensure_future(answer(_remote(handle, "alive", ()), name)))
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.result()
        finally:
            await cancelled(watched)
            client.close()
            if self.connections.get(name) is client:
                del self.connections[name]
        return RECONNECT_S

    def names(self) -> list[str]:
        """Returns the names of all living named actors of the namespace. Blocks."""
        entries = cast("list[dict[str, str]]", ray.util.list_named_actors(all_namespaces=True))
        return [entry["name"] for entry in entries if entry["namespace"] == self.namespace]

    def kill(self, name: str) -> None:
        """Kills an actor's process at once; does nothing if the actor is gone."""
        with contextlib.suppress(ActorGone, Unreachable, RayError):
            ray.kill(self.get(name), no_restart=True)
        self.forget(name)

    def cluster_view(self) -> ClusterView:
        """Returns the cluster's nodes and the state of its autoscaler. Blocks."""
        return cluster_view()


def _remote(handle: Any, method: str, args: tuple[Any, ...]) -> Any:
    """Calls through Ray with Ray's own retries switched off: only `repeat` retries."""
    return getattr(handle, method).options(max_task_retries=0).remote(*args)


def _encrypted() -> bool:
    """Whether Ray encrypts the traffic between its processes."""
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")


def rpc_host() -> str | None:
    """Returns the address of this node to listen on; None where Ray encrypts its traffic."""
    return None if _encrypted() else ray.util.get_node_ip_address()
