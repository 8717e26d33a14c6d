"""The fence: whoever writes for an attempt of a run proves, in the same transaction, that it is
the current one.

Apart from the savers, so that who only needs the fence does not import LangGraph.
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
    """A pipeline on ``conn`` that is one transaction and holds the run for this attempt.

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
    """What a writer meets that is not the current one any more."""
    return Fenced(f"Attempt {attempt} of run {run_id} is not the current one.")


def is_superseded(error: BaseException | None) -> bool:
    """Whether the fence is the cause; in a pipeline a later statement may be what complains."""
    while error is not None:
        if isinstance(error, psycopg.Error) and error.sqlstate == ATTEMPT_SUPERSEDED:
            return True
        error = error.__cause__ or error.__context__
    return False
