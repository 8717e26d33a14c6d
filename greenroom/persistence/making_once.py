"""The parts of statements that make an object under an ``Idempotency-Key``, at most once.

The statement holds the key's row until its commit, so that the key is not freed meanwhile, and
notes the id of what it has made (`greenroom.core.idempotency`).
"""

from __future__ import annotations

from typing import LiteralString

from greenroom.core.idempotency import OnceKey

HELD: LiteralString = """
WITH held AS MATERIALIZED (
    SELECT key FROM greenroom.idempotency k
    WHERE key = %(key)s AND seed = %(seed)s AND NOT EXISTS (
        SELECT 1 FROM greenroom.idempotency_made m WHERE m.key = k.key AND m.id = %(made_id)s)
    FOR KEY SHARE)"""
"""The first of a statement's common tables: a row if the object may be made."""

MAY_MAKE: LiteralString = "EXISTS (SELECT 1 FROM held)"

NOTED: LiteralString = """
noted AS (
    INSERT INTO greenroom.idempotency_made (key, id) SELECT key, %(made_id)s FROM held, made)"""
"""A later one; the common table ``made`` has a row for the object."""

FORGET: LiteralString = """
DELETE FROM greenroom.idempotency_made m USING greenroom.idempotency k
WHERE k.key = %(key)s AND k.seed = %(seed)s AND m.key = k.key AND m.id = %(made_id)s"""
"""Takes a note back, for an object that is deleted since its client was told that it was not
stored."""


def params_of(once: OnceKey, made_id: str) -> dict[str, object]:
    """Returns the parameters of all of these parts."""
    return {"key": once.key, "seed": once.seed, "made_id": made_id}
