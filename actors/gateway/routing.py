"""The gateway's calls of registries: finds a thread's registry, and waits while it restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from actors.calls.answers import CALL_S, NO_ANSWER, ActorGone, repeat
from actors.calls.directory import Handles
from actors.calls.names import REGISTRY, registry_name
from greenroom.core.batching import Batcher
from greenroom.core.errors import Unavailable, Unreachable
from greenroom.core.sharding import Misrouted, hash_slot_of_thread

REGISTRY_PATIENCE_S = 30.0
HELLO_WAIT_S = 1.0

T = TypeVar("T")


class Registries:
    """The registries of a server.

    Args:
        handles: the directory of the server's namespace.
        shards: the number of registries; corrected when an answer says so.
    """

    def __init__(self, handles: Handles, shards: int) -> None:
        self._handles = handles
        self._shards = shards
        self._batchers: dict[tuple[int, str], Batcher[Any, Any]] = {}

    async def call(self, hash_slot: int, method: str, *args: Any, within_s: float = CALL_S) -> Any:
        """Calls the registry of a hash slot."""
        return await self._routed(
            hash_slot, lambda shard: self.shard(shard, method, *args, within_s=within_s)
        )

    async def gathered(self, thread_id: str, method: str, item: Any) -> Any:
        """Sends an item to its thread's registry, in one call with other waiting items."""

        async def send(shard: int) -> Any:
            batcher = self._batchers.get((shard, method))
            if batcher is None:
                batcher = self._batchers[shard, method] = Batcher(
                    lambda items: self.shard(shard, method, items)
                )
            return await batcher.submit(item)

        return await self._routed(hash_slot_of_thread(thread_id), send)

    async def answered(self, thread_id: str, method: str, item: Any) -> Any:
        """Like `gathered`; repeats while the registry answers that it is still storing the item.

        Raises:
            Unavailable: the item is not stored within `REGISTRY_PATIENCE_S`.
        """
        deadline_s = asyncio.get_running_loop().time() + REGISTRY_PATIENCE_S
        while True:
            answer = await self.gathered(thread_id, method, item)
            if answer is not None:
                return answer
            if asyncio.get_running_loop().time() > deadline_s:
                raise Unavailable(
                    "The server could not store this in time; it may still be done. Try again in a"
                    " moment."
                )

    async def every(self, method: str, *args: Any) -> list[Any]:
        """Calls every registry; returns the answers in the order of their numbers."""
        while True:
            calls = (self.shard(shard, method, *args) for shard in range(self._shards))
            try:
                return await asyncio.gather(*calls)
            except Misrouted as error:
                self._shards = error.shards

    async def _routed(self, hash_slot: int, call: Callable[[int], Awaitable[T]]) -> T:
        while True:
            try:
                return await call(hash_slot % self._shards)
            except Misrouted as error:
                # The number of registries has changed, or the run's id does not name its slot.
                self._shards = error.shards
                hash_slot = hash_slot if error.hash_slot is None else error.hash_slot

    async def shard(self, shard: int, method: str, *args: Any, within_s: float = CALL_S) -> Any:
        """Calls a registry; repeats while it restarts. Passes its answers on, also `Unavailable`.

        Args:
            shard: the number of the registry.
            within_s: the time-out of one call in seconds.

        Raises:
            Misrouted: this registry no longer exists.
            Unavailable: the registry does not return within `REGISTRY_PATIENCE_S`, or answers so.
            Uncertain: the registry died during a call that must not be repeated.
        """
        name = registry_name(shard)

        async def call() -> Any:
            try:
                return await self._handles.call(name, method, *args, within_s=within_s)
            except (ActorGone, Unreachable):
                if shard:
                    await self._refuse_unless_there(shard)
                raise

        try:
            return await repeat(call, bound_s=REGISTRY_PATIENCE_S)
        except (ActorGone, Unreachable) as error:
            raise Unavailable("The server is restarting. Try again in a moment.") from error

    async def _refuse_unless_there(self, shard: int) -> None:
        # Bounded: the first registry may restart for longer than this one.
        with suppress(*NO_ANSWER, Unavailable):
            hello = await self._handles.call(REGISTRY, "hello", within_s=HELLO_WAIT_S)
            if shard >= hello["shards"]:
                raise Misrouted("There is no such registry any more.", hello["shards"])
