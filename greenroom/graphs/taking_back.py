"""Takes back the messages that an attempt was streaming when its process died.

The next attempt streams them anew, under other ids, so that a client would keep the half ones. What
each client needs was found in its sources:

    error         ends the message, for who reads it as it comes (both SDKs)
    two states    the first one names the half messages as removed, and the second one does not:
                  `@langchain/react` keeps a message that it has only seen streamed until a state
                  had it and a later state has it not

The states are those that the log had last, so they say nothing new of the thread.
"""

from __future__ import annotations

from typing import Any

from greenroom.core.ports import JsonObject
from greenroom.core.thread_log import MESSAGES, event_name
from greenroom.graphs.messages import Emit
from greenroom.graphs.resume import Tail
from greenroom.wire.encoding import dumps, is_list, is_object, loads

_ENDED = ("message-finish", "error")
_REASON = "The process that streamed this message died. The run goes on and streams it anew."


async def take_back(tail: Tail, emit: Emit) -> None:
    """Emits what takes back the messages that the attempts before have left unfinished."""
    unfinished: dict[tuple[str, ...], list[str]] = {}
    # Messages of one node do not mix, so that only its newest event can belong to a half message.
    for name, data in await tail.newest(MESSAGES):
        message: JsonObject = loads(data)
        if message["event"] not in _ENDED:
            error = {"event": "error", "message": _REASON, "id": message["id"]}
            emit(name, dumps(error))
            unfinished.setdefault(tuple(name.split("|")[1:]), []).append(message["id"])
    if not unfinished:
        return
    states = dict(await tail.newest("values"))
    for namespace, ids in unfinished.items():
        state = states.get("|".join(("values", *namespace)))
        shown = None if state is None else _removed(loads(state), ids)
        if shown is not None:
            for each in (dumps(shown), state):
                emit(event_name("values", namespace), each or b"")


def _removed(state: Any, ids: list[str]) -> JsonObject | None:
    """Returns a state whose messages say which ones are removed; None if it has no messages."""
    if not is_object(state):
        return None
    gone = [{"type": "remove", "content": "", "id": each} for each in ids]
    shown = {key: [*value, *gone] for key, value in state.items() if _has_messages(key, value)}
    return {**state, **shown} if shown else None


def _has_messages(key: str, value: Any) -> bool:
    if not is_list(value):
        return False
    first: Any = value[0] if value else None
    return key == "messages" or (is_object(first) and {"type", "id", "content"} <= set(first))
