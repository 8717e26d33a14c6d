"""Watches an actor: one call that is never answered shows its death."""

from __future__ import annotations

import logging

from actors.calls.answers import ActorGone
from actors.calls.directory import Handles
from greenroom.core.errors import Unreachable

log = logging.getLogger("greenroom.keeper")


async def until_dead(handles: Handles, name: str) -> None:
    """Waits until Ray reports the death of an actor.

    Raises:
        Unreachable: the waiting call was broken off, which is not a death.
    """
    try:
        await handles.call(name, "alive", within_s=None)
    except ActorGone:
        return
    except Unreachable:
        raise
    except Exception as error:  # an actor of other code may answer anything
        log.warning("an actor's watch broke off", extra={"actor": name}, exc_info=True)
        raise Unreachable(f"Actor {name} is not watched: {error}") from error
    raise Unreachable(f"Actor {name} answered what is never answered.")
