"""What the parts of a registry share: its state in memory, its database, its actors."""

from __future__ import annotations

from dataclasses import dataclass

from actors.common.metering import Meter
from actors.common.setup import RegistrySetup
from actors.common.tasks import Tasks
from actors.registry.activity import ThreadActivity
from actors.registry.in_flight import Runs
from actors.registry.inspections import Inspections
from actors.registry.keeper import Keeper
from actors.registry.lanes import Lanes
from actors.registry.waiters import Waiters
from actors.registry.webhooks import WebhookSender
from greenroom.core.sharding import Shard
from greenroom.persistence.bulk import Bulk
from greenroom.persistence.database import Pool
from greenroom.persistence.journal import Journal


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """Everything that more than one part of a registry needs, complete once it has recovered.

    Attributes:
        setup: with the address of the database that was found.
        epoch: the number by which the database knows that this registry may write.
        takes_shipped: graphs may be added by clients of the database (`persistence.shipped`).
        runs, lanes: what is in flight.
        waiters: who waits for a run, a thread or an operation.
        activity: of watched threads.
        tasks: of the registry.
        journal: grouped commits, fenced by the registry's epoch.
        bulk: large work on a thread, beside the journal.
        database: the registry's own connections.
    """

    setup: RegistrySetup
    epoch: int
    takes_shipped: bool
    runs: Runs
    lanes: Lanes
    waiters: Waiters
    activity: ThreadActivity
    meter: Meter
    tasks: Tasks
    keeper: Keeper
    inspections: Inspections
    journal: Journal
    bulk: Bulk
    database: Pool
    webhooks: WebhookSender

    @property
    def shard(self) -> Shard:
        return self.setup.shard
