"""The durable tail of a resumable run: its events with the sequence numbers of the live log.

Appending is fenced and keyed by (run, seq), so a batch may be sent again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from greenroom.core.events import Event
from greenroom.core.units import MIB
from greenroom.persistence.database import Connection, Pool, retrying
from greenroom.persistence.fence import fenced
from greenroom.sealing import MARK, UNSEALED, Sealing

_PAGE = 500
_PAGE_BYTES = 4 * MIB

# One row per array element, however many: one statement, one plan. %b: bytea as bytes, not as hex.
_APPEND = (
    "INSERT INTO greenroom.run_events (run_id, seq, at_ms, name, data)"
    " SELECT %s, * FROM unnest(%b::int8[], %b::int8[], %b::text[], %b::bytea[])"
    " ON CONFLICT DO NOTHING"
)

# The sizes are known without reading the data, as PostgreSQL stores large data out of line.
_READ = """
    SELECT seq, at_ms, name, data FROM (
        SELECT *, sum(octet_length(data)) OVER (ORDER BY seq) - octet_length(data) AS before
        FROM greenroom.run_events WHERE run_id = %s AND seq > %s ORDER BY seq LIMIT %s
    ) AS events
    WHERE before = 0 OR before < coalesce(%s::int8, 9223372036854775807) ORDER BY seq"""

# Jumps from run to run along the primary key: a sweep must not read every event.
_EXPIRED = """
    WITH RECURSIVE tails AS (
        (SELECT run_id FROM greenroom.run_events ORDER BY run_id LIMIT 1)
        UNION ALL
        SELECT (SELECT e.run_id FROM greenroom.run_events e WHERE e.run_id > t.run_id
            ORDER BY e.run_id LIMIT 1) FROM tails t WHERE t.run_id IS NOT NULL
    )
    SELECT t.run_id FROM tails t LEFT JOIN greenroom.runs r USING (run_id)
    WHERE t.run_id IS NOT NULL AND (r.run_id IS NULL OR (
        r.status NOT IN ('pending', 'running') AND r.logged = %s
        AND r.updated_at < now() - make_interval(secs => %s)))
    LIMIT %s"""


async def append(
    pool: Pool,
    run_id: str,
    attempt: int,
    events: Sequence[Event],
    *,
    sealing: Sealing = UNSEALED,
) -> None:
    """Makes events durable, all or none; seals their data.

    Raises:
        Fenced: another attempt owns the run, or the run is over; nothing was written.
        DatabaseUnavailable: PostgreSQL does not return within the pool's time-out.
    """
    if not events:
        return
    data = [event.data for event in events]
    if sealing.is_on:
        data = await sealing.apart(_sealed, sealing, data)
    columns = (
        [event.seq for event in events],
        [event.at_ms for event in events],
        [event.name for event in events],
        data,
    )

    async def write(conn: Connection) -> None:
        async with fenced(conn, run_id, attempt):
            await conn.execute(_APPEND, (run_id, *columns))

    await retrying(pool, write)


def _sealed(sealing: Sealing, data: Sequence[bytes]) -> list[bytes]:
    return [sealing.seal(each) for each in data]


async def read(
    pool: Pool,
    run_id: str,
    after: int,
    limit: int,
    *,
    max_bytes: int | None = None,
    sealing: Sealing = UNSEALED,
) -> list[Event]:
    """Returns the first ``limit`` events after the sequence number ``after``, in order.

    Args:
        max_bytes: the most data of all events; the first event is returned whatever its size.
    """

    async def select(conn: Connection) -> list[Event]:
        cursor = await conn.execute(_READ, (run_id, after, limit, max_bytes), binary=True)
        return [
            Event(row["seq"], row["at_ms"], row["name"], bytes(row["data"]))
            for row in await cursor.fetchall()
        ]

    found = await retrying(pool, select)
    if not any(each.data.startswith(MARK) for each in found):
        return found
    return await sealing.apart(
        lambda: [replace(each, data=sealing.open(each.data)) for each in found]
    )


async def has(
    pool: Pool,
    run_id: str,
    name: str,
    data: bytes,
    *,
    whole: bool,
    before: int,
    sealing: Sealing = UNSEALED,
) -> bool:
    """Returns whether a run has an event before the sequence number ``before``.

    Args:
        data: the event's data, or, without ``whole``, a part of it.
    """
    if sealing.is_on:
        return await _has_sealed(pool, run_id, name, data, whole, before, sealing)
    same = "data = %s::bytea" if whole else "position(%s::bytea in data) > 0"

    async def select(conn: Connection) -> bool:
        cursor = await conn.execute(
            "SELECT 1 FROM greenroom.run_events"
            f" WHERE run_id = %s AND seq < %s AND name = %s AND {same} LIMIT 1",
            (run_id, before, name, data),
        )
        return await cursor.fetchone() is not None

    return await retrying(pool, select)


async def newest(
    pool: Pool, run_id: str, begin: str, *, before: int, sealing: Sealing = UNSEALED
) -> list[tuple[str, bytes]]:
    """Returns, of each name that begins so, the newest event of a run before the sequence number
    ``before``: its name and its data."""

    async def select(conn: Connection) -> list[tuple[str, bytes]]:
        cursor = await conn.execute(
            "SELECT DISTINCT ON (name) name, data FROM greenroom.run_events"
            " WHERE run_id = %s AND seq < %s AND starts_with(name, %s) ORDER BY name, seq DESC",
            (run_id, before, begin),
            binary=True,
        )
        return [(row["name"], bytes(row["data"])) for row in await cursor.fetchall()]

    found = await retrying(pool, select)
    if not any(data.startswith(MARK) for _, data in found):
        return found
    return await sealing.apart(lambda: [(name, sealing.open(data)) for name, data in found])


async def _has_sealed(
    pool: Pool, run_id: str, name: str, data: bytes, whole: bool, before: int, sealing: Sealing
) -> bool:
    """Like `has`, of events that only this process can read."""
    after = 0
    while True:
        page = await read(pool, run_id, after, _PAGE, max_bytes=_PAGE_BYTES, sealing=sealing)
        for event in page:
            is_it = event.seq < before and event.name == name
            if is_it and (event.data == data if whole else data in event.data):
                return True
        if not page or page[-1].seq >= before:
            return False
        after = page[-1].seq


# Uses an index, and reads only the runs that ended in this period. A scalar instead of EXISTS,
# which may be planned as a join with all events.
_ENDED = """
    SELECT r.run_id FROM greenroom.runs r
    WHERE r.resumable AND r.status NOT IN ('pending', 'running') AND r.logged = %s
        AND r.updated_at >= now() - make_interval(secs => %s)
        AND r.updated_at < now() - make_interval(secs => %s)
        AND (SELECT true FROM greenroom.run_events e WHERE e.run_id = r.run_id LIMIT 1)
    ORDER BY r.updated_at LIMIT %s"""


# What a thread's log has lost: all events of these runs.
_NOTE_DROPPED = """
    UPDATE greenroom.threads t SET log_dropped = d.position
    FROM (
        SELECT thread_id, max(((log_number + 1) << 32) - 1) AS position FROM greenroom.runs
        WHERE run_id = ANY(%s) AND log_number IS NOT NULL GROUP BY thread_id
    ) d WHERE t.thread_id = d.thread_id AND t.log_dropped < d.position"""


async def delete_expired(
    pool: Pool,
    ttl_s: float,
    *,
    max_runs: int = 1000,
    within_s: float | None = None,
    logged: bool = False,
) -> int:
    """Deletes the tails of runs that ended more than ``ttl_s`` seconds ago, or were deleted.

    Args:
        within_s: consider only runs that ended at most that many seconds before; None considers
            all runs, and examines every tail.
        logged: consider runs of threads' logs, instead of the others.

    Returns:
        the number of deleted tails; ``max_runs`` means that more may be left.
    """
    sql, params = (_EXPIRED, (logged, ttl_s, max_runs))
    if within_s is not None:
        sql, params = _ENDED, (logged, ttl_s + within_s, ttl_s, max_runs)

    async def delete(conn: Connection) -> int:
        async with conn.transaction():
            cursor = await conn.execute(sql, params)
            runs = [row["run_id"] for row in await cursor.fetchall()]
            if runs:
                await conn.execute(
                    "DELETE FROM greenroom.run_events WHERE run_id = ANY(%s)", (runs,)
                )
                if logged:
                    await conn.execute(_NOTE_DROPPED, (runs,))
            return len(runs)

    return await retrying(pool, delete)
