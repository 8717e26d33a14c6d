"""Assistants, threads and runs, as the HTTP edge reads them: `core.ports.Records` over a pool.

| module | contents |
|---|---|
| `queries` | `Queries`: queries PostgreSQL, and translates its errors; shared parts of SQL |
| `assistants`, `threads`, `runs` | questions about one kind of record, and its shape in the API |
| `system_assistants` | the assistants that every start of a server registers |
"""

from greenroom.persistence.records.assistants import AssistantRecords
from greenroom.persistence.records.runs import RunRecords
from greenroom.persistence.records.system_assistants import name_assistants, register_assistants
from greenroom.persistence.records.threads import WALK, ThreadRecords

__all__ = ["WALK", "PostgresRecords", "name_assistants", "register_assistants"]


class PostgresRecords(AssistantRecords, ThreadRecords, RunRecords):
    """`core.ports.Records` over a pool."""
