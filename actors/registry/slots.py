"""Gives slots on actors to runs, and frees them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from actors.registry.pools import ActorPools

Granted = Callable[[str, str], object]
"""Called with a run and the actor that it got."""


class Slots:
    """The slots on the actors of all pools.

    Args:
        granted: called when a waiting run gets a slot.
        wake: called when a pool may want more actors, or fewer.
    """

    def __init__(self, pools: ActorPools, *, granted: Granted, wake: Callable[[], None]) -> None:
        self._pools = pools
        self._granted = granted
        self._wake = wake

    def claim(self, run_id: str, graph_id: str, *, apart: bool = False) -> str | None:
        """Claims a slot; returns the actor, or None if the run waits for ``granted``.

        Args:
            apart: as of `ActorPool.claim`.
        """
        name = self._pools.of_graph(graph_id).claim(run_id, apart=apart)
        self._wake()
        return name

    def claim_again(self, run_id: str, graph_id: str) -> str | None:
        """Like `claim`, but ahead of the queue, for a run that lost its actor."""
        name = self._pools.of_graph(graph_id).claim_again(run_id)
        self._wake()
        return name

    def release(self, run_id: str, graph_id: str, actor: str | None) -> None:
        """Removes a run that has left its actor, or the queue."""
        if actor is not None:
            self.free(run_id, actor)
        elif self._pools.knows(graph_id):
            self._pools.of_graph(graph_id).leave(run_id)

    def hand_on(self, run_id: str, actor: str) -> None:
        """Gives the slot of a run that is about to leave its actor to the next waiting run."""
        pool = self._pools.of_actor(actor)
        if pool is not None:
            self.grant(pool.hand_on(actor, run_id, now_s=time.monotonic()))

    def free(self, run_id: str, actor: str) -> None:
        """Frees the run's slot on the actor; the run may be unknown here."""
        pool = self._pools.of_actor(actor)
        if pool is not None:
            self.grant(pool.release(actor, run_id, now_s=time.monotonic()))
            # It may have been the actor's last: a fresh one takes its place.
            self._wake()

    def grant(self, granted: Iterable[tuple[str, str]]) -> None:
        """Calls ``granted`` for the runs and actors that a method of a pool has returned."""
        for run_id, actor in granted:
            self._granted(run_id, actor)
