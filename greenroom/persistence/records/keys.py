"""The keys of requests that clients may repeat: reservations, releases, what was made."""

from __future__ import annotations

from typing import Literal

from greenroom.core.idempotency import OnceKey, Reservation
from greenroom.persistence.making_once import params_of
from greenroom.persistence.records.queries import Queries

_RESERVE = """
WITH reserved AS (
    INSERT INTO greenroom.idempotency (key, digest, seed) VALUES (%(key)s, %(digest)s, %(seed)s)
    ON CONFLICT (key) DO NOTHING RETURNING key, digest, seed)
SELECT digest, seed::text, ARRAY(
    SELECT m.id FROM greenroom.idempotency_made m WHERE m.key = found.key) AS made
FROM (SELECT * FROM reserved UNION ALL
    SELECT key, digest, seed FROM greenroom.idempotency WHERE key = %(key)s) AS found"""

_NOTE = """
WITH held AS MATERIALIZED (
    SELECT key FROM greenroom.idempotency WHERE key = %(key)s AND seed = %(seed)s FOR KEY SHARE),
noted AS (
    INSERT INTO greenroom.idempotency_made (key, id) SELECT key, %(made_id)s FROM held
    ON CONFLICT DO NOTHING)
SELECT 1 FROM held"""

_ASK = """
SELECT EXISTS (SELECT 1 FROM greenroom.idempotency_made m
    WHERE m.key = k.key AND m.id = %(made_id)s) AS is_made
FROM greenroom.idempotency k WHERE key = %(key)s AND seed = %(seed)s"""


class KeyRecords(Queries):
    """The keys, and what was made under them."""

    async def reserve(self, once: OnceKey, digest: bytes) -> Reservation:
        given = {"key": once.key, "seed": once.seed, "digest": digest}
        while True:
            rows = await self.rows(_RESERVE, given)
            if rows:  # else another request has reserved it at this moment
                return Reservation(
                    once=OnceKey(key=once.key, seed=rows[0]["seed"]),
                    digest=rows[0]["digest"],
                    made=frozenset(rows[0]["made"]),
                )

    async def release(self, once: OnceKey) -> bool:
        rows = await self.rows(
            "SELECT greenroom.release_key(%s, %s::uuid) AS released", [once.key, once.seed]
        )
        return rows[0]["released"]

    async def note_made(self, once: OnceKey, made_id: str) -> bool:
        return bool(await self.rows(_NOTE, params_of(once, made_id)))

    async def key_state(self, once: OnceKey, made_id: str) -> Literal["made", "free", "gone"]:
        """Returns whether an object was made under a key; ``gone``: the key is not reserved."""
        rows = await self.rows(_ASK, params_of(once, made_id))
        if not rows:
            return "gone"
        return "made" if rows[0]["is_made"] else "free"
