"""The directory of actors: finds an actor by its name, calls it, ends it.

Everything else in `actors` is plain classes, but for `actors.spawn` and `actors.registries`, which
make actors. An actor's *name* travels between processes, never its handle (a handle in a call costs
the receiver more than the call); handles are cached here by name. Run-actor names are unique and
never reused, so a name that is gone stays gone: for some milliseconds after a death Ray still gives
out the dead actor under its name.
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

log = logging.getLogger("greenroom.handles")

RECONNECT_S = 1.0
"""From the end of a connection to an actor to the next one; until then it is called through Ray."""
NO_ADDRESS_S = 60.0
"""How long an actor that has no address of its own is not asked for it again."""
ADDRESS_WAIT_S = 30.0


class Handles:
    """Finds, calls and ends the actors of one namespace.

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

    def keep(self, name: str, handle: ray.actor.ActorHandle) -> None:
        """Under this name there is a new actor; for who has made it."""
        self._known[name] = handle

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
        if not may_be_repeated(name, method):
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


def _remote(handle: Any, method: str, args: tuple[Any, ...]) -> Any:
    """Calls through Ray, which must not repeat by itself: only `repeat` does."""
    return getattr(handle, method).options(max_task_retries=0).remote(*args)


def _encrypted() -> bool:
    """Whether Ray encrypts what its actors say."""
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")


def rpc_host() -> str | None:
    """The address of this node to listen on; None where Ray encrypts what its actors say."""
    return None if _encrypted() else ray.util.get_node_ip_address()
