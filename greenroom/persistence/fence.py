"""The fence: each write for an attempt proves, in its transaction, that the attempt is current.

It is separate from the savers, so that code that needs only the fence does not import LangGraph.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import psycopg

from greenroom.core.errors import Fenced
from greenroom.persistence.database import Connection

ATTEMPT_SUPERSEDED = "GR001"
FENCE = "SELECT greenroom.fence(%s, %s)"


@asynccontextmanager
async def fenced(conn: Connection, run_id: str, attempt: int) -> AsyncGenerator[None, None]:
    """Opens a pipeline on ``conn`` that is one transaction and holds the run for this attempt.

    Raises:
        Fenced: the attempt is not the current one; nothing was written.
    """
    try:
        async with conn.pipeline():
            await conn.execute(FENCE, (run_id, attempt))
            yield
    except psycopg.Error as error:
        if is_superseded(error):
            raise superseded(run_id, attempt) from None
        raise


def superseded(run_id: str, attempt: int) -> Fenced:
    """Returns the error for a write of an attempt that is no longer current."""
    return Fenced(f"Attempt {attempt} of run {run_id} is not the current one.")


def is_superseded(error: BaseException | None) -> bool:
    """Returns whether the fence caused an error, or that of a later statement in a pipeline."""
    while error is not None:
        if isinstance(error, psycopg.Error) and error.sqlstate == ATTEMPT_SUPERSEDED:
            return True
        error = error.__cause__ or error.__context__
    return False
