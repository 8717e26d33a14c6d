"""Records, as the HTTP edge reads them: `core.records.Records` over a pool.

A method that is one of `Records` is documented there.

| module | contents |
|---|---|
| `queries` | `Queries`: queries PostgreSQL, and translates its errors; shared parts of SQL |
| `assistants`, `threads`, `runs`, `crons` | questions about one kind of record, and its shape |
| `inputs` | what was said to runs |
| `timelines` | what is stored of a run's life |
| `feedback` | what people say about runs |
| `pushes` | who is told about A2A tasks |
| `keys` | keys of requests that clients may repeat, and what was made under them |
| `usage` | what gateways have counted of their callers, and the runs of a caller |
| `system_assistants` | the assistants that every start of a server registers |
| `items` | the same of the store's items, and their writes, also those of graphs |
"""

from greenroom.persistence.records.assistants import AssistantRecords
from greenroom.persistence.records.crons import CronRecords
from greenroom.persistence.records.deliveries import DeliveryRecords
from greenroom.persistence.records.feedback import FeedbackRecords
from greenroom.persistence.records.items import (
    ItemQueries,
    ItemRecords,
    delete_expired_items,
)
from greenroom.persistence.records.pushes import PushRecords
from greenroom.persistence.records.runs import RunRecords
from greenroom.persistence.records.system_assistants import name_assistants, register_assistants
from greenroom.persistence.records.threads import WALK, ThreadRecords
from greenroom.persistence.records.timelines import TimelineRecords
from greenroom.persistence.records.usage import UsageQueries

__all__ = [
    "WALK",
    "ItemQueries",
    "PostgresRecords",
    "delete_expired_items",
    "name_assistants",
    "register_assistants",
]


class PostgresRecords(
    AssistantRecords,
    ThreadRecords,
    RunRecords,
    TimelineRecords,
    FeedbackRecords,
    CronRecords,
    DeliveryRecords,
    ItemRecords,
    PushRecords,
    UsageQueries,
):
    """`core.records.Records` over a pool."""
