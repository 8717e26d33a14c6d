"""The state that the parts of a registry share: its memory, its database, its actors."""

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
    """The objects that several parts of a registry need; complete once the registry has recovered.

    Attributes:
        setup: the registry's set-up, with the address of the database.
        epoch: the registry's epoch; the database accepts only writes of the newest epoch.
        takes_shipped: whether clients of the database may add graphs (`persistence.shipped`).
        runs, lanes: the runs in flight and their lanes.
        waiters: the callers that wait for a run, a thread or an operation.
        activity: the activity on watched threads.
        tasks: the registry's background tasks.
        journal: the grouped commits, fenced by the registry's epoch.
        bulk: large work on a thread, outside the journal.
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
