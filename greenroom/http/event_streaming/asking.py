"""A command of event streaming on its way, and its refusal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from greenroom.core.ports import JsonObject
from greenroom.core.scopes import Scope
from greenroom.http.creation import plain
from greenroom.http.edge import Edge
from greenroom.http.gates import reads_thread
from greenroom.http.idempotency import NEW, Ids
from greenroom.http.thread_lookups import no_graph
from greenroom.wire.dialects import Dialect
from greenroom.wire.encoding import is_list

ErrorCode = Literal[
    "invalid_argument",
    "unknown_command",
    "unknown_error",
    "no_such_run",
    "no_such_subscription",
    "no_such_namespace",
    "no_such_interrupt",
    "no_such_checkpoint",
    "permission_denied",
    "not_supported",
]


class CommandError(Exception):
    """The refusal of a command.

    Args:
        code: one of the protocol's.
        message: a sentence that says what to change.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(code, message)
        self.code: ErrorCode = code
        self.message = message


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A command on its way.

    Attributes:
        params: the command's parameters.
        ids: the ids of what it makes.
    """

    edge: Edge
    dialect: Dialect
    thread_id: str
    params: JsonObject
    ids: Ids = NEW

    def text(self, name: str) -> str:
        """Returns a parameter that must be a string. Raises CommandError."""
        value = self.params.get(name)
        if not isinstance(value, str) or not value:
            raise CommandError("invalid_argument", f"{name} is required and must be a string.")
        return value

    def namespace(self) -> tuple[str, ...]:
        """Returns the parameter ``namespace``; the root if it is absent. Raises CommandError."""
        value = self.params.get("namespace")
        if value is None:
            return ()
        if not is_list(value) or not all(isinstance(each, str) for each in value):
            raise CommandError("invalid_argument", "namespace must be an array of strings.")
        return tuple(value)

    async def thread(self, scope: Scope) -> JsonObject | None:
        return await self.edge.records.get_thread(self.thread_id, scope=scope, with_state=False)

    async def readable(self) -> JsonObject | None:
        """Returns the thread's record if the caller may read it."""
        return await self.thread(await reads_thread(self.edge, self.thread_id))


def assistant_of(thread: JsonObject) -> str:
    """Returns the assistant of a thread's newest run. Raises CommandError."""
    found = plain(thread.get("metadata")).get("assistant_id")
    return assistant_named(str(thread["thread_id"]), found)


def assistant_named(thread_id: str, found: Any) -> str:
    """Returns the assistant that a thread's record names. Raises CommandError."""
    if not isinstance(found, str):
        raise CommandError("invalid_argument", no_graph(thread_id))
    return found
