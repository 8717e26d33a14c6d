"""What gateways have counted of their callers, and the runs of a caller."""

from __future__ import annotations

from collections.abc import Mapping, Set

from greenroom.core.limits import RunsOfCaller, Usage
from greenroom.persistence.records.queries import Queries

_SILENT_S = 15
"""After this time the open answers of a gateway that tells nothing count as ended."""

# The own rows replace what this gateway has told before. The statement sees the table as it was
# before; of itself a gateway knows better anyway.
_SHARE = f"""
WITH told AS (
    INSERT INTO greenroom.caller_usage (kind, caller, period, amount, gateway)
    SELECT *, %(gateway)s FROM unnest(
        %(kinds)s::text[], %(callers)s::text[], %(periods)s::int8[], %(amounts)s::int8[])
    ON CONFLICT (kind, period, caller, gateway)
        DO UPDATE SET amount = excluded.amount, at = clock_timestamp()),
oldest AS (
    SELECT * FROM unnest(%(limited)s::text[], %(oldest)s::int8[]) AS o (kind, period)),
over AS (
    DELETE FROM greenroom.caller_usage u WHERE u.gateway = %(gateway)s AND (
        u.period = 0 AND NOT (u.caller = ANY(%(open)s::text[]))
        OR u.period < (SELECT o.period FROM oldest o WHERE o.kind = u.kind)))
SELECT u.kind, u.caller, u.period, sum(u.amount)::int8 AS amount
FROM greenroom.caller_usage u LEFT JOIN oldest o USING (kind)
WHERE u.gateway <> %(gateway)s AND (
    u.period >= o.period
    OR u.period = 0 AND u.at > clock_timestamp() - make_interval(secs => {_SILENT_S}))
GROUP BY u.kind, u.caller, u.period"""

_RUNS = """
SELECT count(*) AS in_flight, count(*) FILTER (WHERE status = 'pending') AS queued
FROM greenroom.runs
WHERE caller = %s AND status IN ('pending', 'running') AND NOT run_id = ANY(%s::uuid[])"""


class UsageQueries(Queries):
    """`core.limits.UsageRecords` over a pool."""

    async def share_usage(self, gateway: str, own: Usage, *, oldest: Mapping[str, int]) -> Usage:
        rows = await self.rows(
            _SHARE,
            {
                "gateway": gateway,
                "kinds": [kind for kind, _, _ in own],
                "callers": [caller for _, caller, _ in own],
                "periods": [period for _, _, period in own],
                "amounts": [*own.values()],
                "open": [caller for _, caller, period in own if not period],
                "limited": [*oldest],
                "oldest": [*oldest.values()],
            },
        )
        return {(row["kind"], row["caller"], row["period"]): row["amount"] for row in rows}

    async def runs_of_caller(self, caller: str, *, without: Set[str]) -> RunsOfCaller:
        found = (await self.rows(_RUNS, [caller, list(without)]))[0]
        return RunsOfCaller(found["in_flight"], found["queued"])
