"""Makes actors and waits until they have loaded their graphs; explains failed starts."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

from actors.calls.answers import ActorGone, NodeGone, answer
from actors.calls.directory import Handles
from actors.calls.names import registry_name
from actors.common.actor_process import ActorProcess
from actors.common.placement import PoolSpec, impossible
from actors.common.setup import InspectorSetup, RegistrySetup, RunActorSetup
from actors.spawn import Spawn
from greenroom.core.errors import Unavailable, Unreachable

log = logging.getLogger("greenroom.keeper")

PLACING_LOOK_S = 2.0
"""The time after which a start checks whether any node can hold the actor."""


@dataclass(frozen=True, slots=True)
class Problem:
    """The reason why an actor did not start.

    Attributes:
        reason: a sentence for people.
        blameless: whether the problem says nothing about the next start.
        hopeless: whether another start would not help the runs that wait now.
    """

    reason: str
    blameless: bool = False
    hopeless: bool = False


class Starter:
    """Starts actors outside the loop, because making one blocks.

    Args:
        handles, spawn: call actors, and make them.
        timeouts_s: the time-out of an attempt in seconds, by graph; graphs may be added later.
    """

    def __init__(
        self,
        handles: Handles,
        spawn: Spawn,
        setup: RegistrySetup,
        timeouts_s: dict[str, float],
    ) -> None:
        self._handles = handles
        self._spawn = spawn
        self._setup = setup
        self._timeouts_s = timeouts_s

    async def start_run_actor(
        self,
        name: str,
        spec: PoolSpec,
        turns: AbstractAsyncContextManager[None] | None,
        *,
        is_made: bool = False,
    ) -> ActorProcess | Problem:
        """Starts a run actor.

        Args:
            turns: limits the number of concurrent starts, because running runs need the CPU more.
            is_made: whether `make_spare` has made its process.

        Returns:
            the actor's process, or the problem.
        """

        def create() -> None:
            if not is_made:
                self._make(name, spec)

        return await self._start(name, spec, create, turns)

    async def make_spare(self, name: str, spec: PoolSpec) -> None:
        """Makes the process of a run actor, which loads no graphs yet."""
        await asyncio.to_thread(self._make, name, spec)

    def _make(self, name: str, spec: PoolSpec) -> None:
        setup = RunActorSetup(
            name=name,
            namespace=self._setup.namespace,
            dsn=self._setup.dsn,
            encryption_keys=self._setup.encryption_keys,
            config_path=self._setup.config_path,
            configuration=self._setup.configuration,
            problems=self._setup.problems,
            registry=registry_name(self._setup.shard.number),
            spec=spec,
            timeouts_s=self._timeouts_s,
            log_max_bytes=self._setup.log_max_bytes,
            actor_log_max_bytes=self._setup.actor_log_max_bytes,
            registry_silence_s=self._setup.registry_silence_s,
            logs=self._setup.logs,
            debug_port=self._setup.debug_port,
            faults=self._setup.faults,
        )
        self._spawn.make_run_actor(name, setup, spec)

    async def start_inspector(self, name: str, spec: PoolSpec) -> str | None:
        """Starts an inspector; returns the reason if it does not start, else None."""
        setup = InspectorSetup(
            name=name,
            dsn=self._setup.dsn,
            encryption_keys=self._setup.encryption_keys,
            config_path=self._setup.config_path,
            configuration=self._setup.configuration,
            problems=self._setup.problems,
            spec=spec,
            inspect_s=self._setup.inspect_s,
            registry_silence_s=self._setup.registry_silence_s,
            logs=self._setup.logs,
        )
        started = await self._start(name, spec, lambda: self._spawn.make_inspector(name, setup))
        return started.reason if isinstance(started, Problem) else None

    async def _start(
        self,
        name: str,
        spec: PoolSpec,
        create: Callable[[], None],
        turns: AbstractAsyncContextManager[None] | None = None,
    ) -> ActorProcess | Problem:
        """Makes an actor and waits until it has loaded its graphs; ends an actor that fails.

        Args:
            create: starts the actor's process. Blocks.
        """
        try:
            async with turns or nullcontext():
                await asyncio.to_thread(create)
                handle = await self._handles.find(name)
                preparing = asyncio.ensure_future(answer(handle.prepare.remote(), name))
                try:
                    no_node = await self._placed(preparing, spec)
                    if no_node is None:
                        return await preparing
                finally:
                    preparing.cancel()
            problem = Problem(no_node, hopeless=True)
        except (NodeGone, Unreachable):
            problem = Problem("its node was lost while it loaded the graphs", blameless=True)
        except ActorGone:
            return Problem("its process died while it loaded the graphs")
        except Unavailable as error:  # the database is away
            problem = Problem(error.message, blameless=True)
        except Exception as error:  # noqa: BLE001 - user code raises anything while it is imported
            problem = Problem(str(error))
        await asyncio.to_thread(self._handles.kill, name)
        return problem

    async def _placed(self, preparing: asyncio.Future[ActorProcess], spec: PoolSpec) -> str | None:
        """Waits until Ray has placed an actor; returns a sentence if no node can ever hold it.

        The request stays open meanwhile: an actor that Ray cannot place makes the autoscaler add a
        node, and an operator may add a node too.
        """
        since_s: float | None = None
        while True:
            await asyncio.wait({preparing}, timeout=PLACING_LOOK_S)
            if preparing.done():
                return None
            try:
                reason = impossible(spec, await asyncio.to_thread(self._handles.cluster_view))
            except Exception:  # Ray's control service is away, in one of many ways: no verdict
                log.warning("the cluster could not be looked at", exc_info=True)
                reason = None
            now_s = time.monotonic()
            if reason is None:
                since_s = None
                continue
            since_s = now_s if since_s is None else since_s
            if now_s - since_s >= self._setup.placement_patience_s:
                return reason
