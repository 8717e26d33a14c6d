"""Logs exceptions of user code. A client gets only class and message, so the log has the rest."""

from __future__ import annotations

import logging
import re

from greenroom.core.errors import GreenroomError
from greenroom.core.raised import Escaped, message_of, name_of

log = logging.getLogger(__name__)

SHOWN = 300
"""The most characters of an exception's message in the line; the traceback has all of it."""

_NOTE = re.compile(r"During task with name '(.+)' and id '")


def log_failure(graph_id: str, error: BaseException) -> None:
    """Logs the exception that ended a run, once, with its traceback.

    The ids of run, thread and attempt are those that `greenroom.logs.noting` has noted.
    """
    keys = {"action": "run_failed", "graph_id": graph_id}
    node = node_of(error)
    if node:
        keys["node"] = node
    original = error.original if isinstance(error, Escaped) else error
    message = " ".join(message_of(error).split())
    said = f"{name_of(error)}: {message[:SHOWN]}" if message else name_of(error)
    # An error of ours is a sentence about the request or the configuration; no code has failed.
    told = isinstance(error, GreenroomError)
    log.error(f"A run has failed: {said}", extra=keys, exc_info=None if told else original)


def node_of(error: BaseException) -> str:
    """Returns the node that raised an exception, behind those whose subgraphs it is in.

    LangGraph says it in notes of the exception, the innermost first.
    """
    if isinstance(error, Escaped):
        error = error.original
    notes: list[str] = [note for note in getattr(error, "__notes__", ()) if isinstance(note, str)]
    names = [found[1] for note in notes if (found := _NOTE.match(note))]
    return ":".join(reversed(names))
