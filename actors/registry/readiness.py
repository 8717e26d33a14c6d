"""Makes a registry ready: repeats the recovery until it succeeds, then makes the parts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from actors.calls.directory import Handles
from actors.calls.names import registry_name
from actors.common import metrics
from actors.common.garbage import freeze_startup_objects
from actors.common.memory import watch_memory
from actors.common.metering import Meter
from actors.common.setup import RegistrySetup
from actors.common.tasks import Tasks
from actors.registry.activity import ThreadActivity
from actors.registry.context import Context
from actors.registry.in_flight import Runs
from actors.registry.inspections import Inspections
from actors.registry.keeper import Keeper
from actors.registry.lanes import Lanes
from actors.registry.parts import Parts, parts_of
from actors.registry.recovery import Recovered, recover, restore
from actors.registry.sweeping import Sweeper
from actors.registry.waiters import Waiters
from actors.registry.webhooks import WebhookSender
from actors.spawn import Spawn
from greenroom import tracing
from greenroom.core.errors import ConfigurationError, Fenced, Restarting, Unavailable
from greenroom.graphs.configuration import Configuration
from greenroom.persistence.embedded import Embedded, start_embedded
from greenroom.persistence.journal import Superseded

log = logging.getLogger("greenroom.registry")

RECOVERY_WAIT_S = 30.0
"""How long a call waits for the recovery."""
TEND_INTERVAL_S = 1.0
"""The interval between two checks of the embedded database."""


class Readiness:
    """The parts of a registry, and the recovery that makes them.

    Args:
        tasks: the registry's tasks.
        make_handles: makes the directory of a namespace's actors.
        make_spawn: makes the object that makes actors.
        broken: called when vital work of the keeper has failed.
        superseded: called when another registry has taken over.

    Attributes:
        now: the parts; None before the registry has recovered.
    """

    def __init__(
        self,
        setup: RegistrySetup,
        tasks: Tasks,
        meter: Meter,
        *,
        make_handles: Callable[[str], Handles],
        make_spawn: Callable[[Handles], Spawn],
        broken: Callable[[], None],
        superseded: Callable[[], None],
    ) -> None:
        self._setup = setup
        self._shard = setup.shard
        self._name = registry_name(setup.shard.number)
        self._tasks = tasks
        self._meter = meter
        self._make_handles = make_handles
        self._make_spawn = make_spawn
        self._broken = broken
        self._superseded = superseded
        self._refusal: str | None = None
        self._recovered: asyncio.Event | None = None
        self._embedded: Embedded | None = None
        self.now: Parts | None = None

    def begin(self) -> None:
        """Begins the recovery, unless it has begun. Without a running loop the first call does."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        self._begin()

    def _begin(self) -> None:
        if self._recovered is None:
            self._recovered = asyncio.Event()
            self._tasks.spawn(self._recover_until_done())

    async def parts(self) -> Parts:
        """Returns the parts; waits for the recovery.

        Raises:
            Restarting: the recovery takes too long.
            Unavailable: another registry owns this database.
        """
        self._begin()
        assert self._recovered is not None
        if not self._recovered.is_set():
            try:
                async with asyncio.timeout(RECOVERY_WAIT_S):
                    await self._recovered.wait()
            except TimeoutError:
                raise Restarting("The server is still starting. Try again in a moment.") from None
        if self._refusal is not None:
            raise Unavailable(self._refusal)
        assert self.now is not None
        return self.now

    async def _recover_until_done(self) -> None:
        if self._setup.logs is not None:
            self._setup.logs.apply(actor=self._name)
        tracing.configure("registry")
        pause_s = 0.1
        assert self._recovered is not None
        while True:
            try:
                recovered = await recover(
                    self._setup,
                    self._meter,
                    name=self._name,
                    make_keeper=self._make_keeper,
                    superseded=self._superseded,
                )
                break
            except Superseded as error:  # before: to go would only have this one started again
                log.error("this registry stays out of it", extra={"reason": error.message})
                self._refusal = error.message
                self._recovered.set()
                return
            except Fenced:  # an actor has heard from a newer one
                self._superseded()
                raise
            except Exception:  # the database is away, or Ray: nothing but trying again helps
                log.exception("recovery failed, trying again")
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 2.0)
        parts = self._take_over(recovered)
        freeze_startup_objects()
        watch_memory(recovered.database, collects=False)
        self._recovered.set()
        self._begin_upkeep(parts)

    def _make_keeper(self, configuration: Configuration, setup: RegistrySetup) -> Keeper:
        handles = self._make_handles(setup.namespace)
        return Keeper(
            handles,
            self._make_spawn(handles),
            configuration,
            setup,
            Tasks(self._broken),
            self._meter,
            granted=self._granted,
            lost=self._lost,
            unstartable=self._unstartable,
        )

    def _take_over(self, recovered: Recovered) -> Parts:
        """Makes the parts and rebuilds the runs in flight, in one synchronous step."""
        self._setup = recovered.setup
        self._embedded = recovered.embedded
        keeper = recovered.keeper
        most = self._setup.max_queued_runs
        inspections = Inspections(
            keeper.handles, keeper.inspectors, (recovered.epoch, self._shard.number)
        )
        context = Context(
            setup=recovered.setup,
            epoch=recovered.epoch,
            takes_shipped=recovered.takes_shipped,
            runs=Runs(self._shard.share(most) if most is not None else None),
            lanes=Lanes(),
            waiters=Waiters(),
            activity=ThreadActivity(),
            meter=self._meter,
            tasks=self._tasks,
            keeper=keeper,
            inspections=inspections,
            journal=recovered.journal,
            bulk=recovered.bulk,
            database=recovered.database,
            webhooks=WebhookSender(
                recovered.database,
                recovered.setup.webhooks,
                self._shard,
                open_stored=inspections.open_stored if recovered.setup.seals else None,
            ),
        )
        parts = self.now = parts_of(context)
        restore(parts, recovered)
        return parts

    def _begin_upkeep(self, parts: Parts) -> None:
        """Begins the tasks that last as long as the registry."""
        context = parts.context
        self._tasks.spawn(context.keeper.keep())
        self._tasks.spawn(context.webhooks.send())
        self._tasks.spawn(parts.crons.keep())
        if self._setup.embedded is not None and self._shard.is_first:
            self._tasks.spawn(_tend_embedded(self._setup.embedded))
        self._tasks.spawn(metrics.export(self._meter, lambda: measure(context)))
        self._tasks.spawn(parts.assistant_deletions.take_up())
        sweeper = Sweeper(
            context.database,
            self._setup,
            parts.operations,
            parts.assistant_deletions,
            self._meter,
        )
        self._tasks.spawn(sweeper.keep())

    # --- what the keeper tells -----------------------------------------------------------------

    def _granted(self, run_id: str, actor: str) -> None:
        if self.now is not None:
            self.now.attempts.granted(run_id, actor)

    def _lost(self, run_id: str, actor: str, note: str | None) -> None:
        # While it recovers no run is known; `restore` finds that the actor is not there.
        if self.now is not None:
            self._tasks.vital(self.now.losses.lost(run_id, actor, note))

    def _unstartable(self, run_id: str, reason: str) -> None:
        if self.now is not None:
            self._tasks.vital(self.now.losses.unstartable(run_id, reason))


def measure(context: Context) -> None:
    """Sets the gauges: metrics of the present state."""
    context.meter.set(metrics.RUNS_NOW, context.runs.count_by_graph_and_status())
    context.keeper.pools.measure(context.meter)


async def _tend_embedded(directory: Path) -> None:
    """Starts the embedded database again if it has ended; attaching to a running one is cheap."""
    while True:
        await asyncio.sleep(TEND_INTERVAL_S)
        try:
            (await asyncio.to_thread(start_embedded, directory)).release()
        except ConfigurationError as error:
            log.error("the embedded database does not start", extra={"reason": str(error)})
