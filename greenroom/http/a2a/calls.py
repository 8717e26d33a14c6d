"""A request to a method of the A2A protocol, and the forms of its answer."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from a2a.compat.v0_3 import types as a2a
from a2a.utils.errors import (
    JSON_RPC_ERROR_CODE_MAP,
    A2AError,
    InternalError,
    InvalidParamsError,
    UnsupportedOperationError,
)
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.errors import (
    BadRequest,
    Conflict,
    GreenroomError,
    InvalidRequest,
    NotFound,
    Refused,
    Unavailable,
)
from greenroom.core.ports import JsonObject
from greenroom.http.a2a.cards import HISTORY_SCOPE
from greenroom.http.a2a.tasks import Sent, Tasks
from greenroom.http.a2a.versions import Version
from greenroom.http.a2a.views import History, View
from greenroom.http.answering import encoded
from greenroom.http.creation import assistant_of
from greenroom.http.edge import Edge, dialect_of, edge_of
from greenroom.http.errors import invalid_body
from greenroom.http.streaming import EventStream, LateJson, close
from greenroom.wire.encoding import dumps
from greenroom.wire.sse import event_frame

log = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A request to a method.

    Attributes:
        id: the id of the request, which the answer repeats.
        params: in the words of version 0.3.
    """

    request: Request
    assistant_id: str
    id: Any
    version: Version
    params: JsonObject

    @property
    def edge(self) -> Edge:
        return edge_of(self.request)

    async def tasks(self) -> Tasks:
        dialect = dialect_of(self.request)
        assistant = await assistant_of(self.edge, dialect, self.assistant_id, strict=True)
        return Tasks(self.edge, dialect, assistant)

    def parsed(self, model: type[M]) -> M:
        try:
            return model.model_validate(self.params)
        except ValidationError as error:
            raise InvalidParamsError(invalid_body(error).message) from None

    def history(self, length: int | None) -> History:
        if length is not None and length < 0:
            raise InvalidParamsError("historyLength must be at least 0.")
        match self.request.headers.get(HISTORY_SCOPE, "context"):
            case "context" | "task" as scope:
                return History(scope=scope, length=length)
            case other:
                raise InvalidParamsError(
                    f"{HISTORY_SCOPE} must be context or task, not {other[:80]!r}."
                )

    def result(self, result: Any) -> bytes:
        return dumps({"jsonrpc": "2.0", "id": self.id, "result": result})

    def answer(self, result: Any) -> Response:
        return encoded(self.result(result))

    def task(self, view: View, history: History) -> JsonObject:
        return as_json(view.task(history))

    def late(self, produce: Callable[[], Awaitable[bytes]]) -> Response:
        """Answers with JSON that is awaited; the connection is kept alive meanwhile."""

        async def answer() -> bytes:
            try:
                return await produce()
            except (A2AError, GreenroomError) as error:
                return error_body(self.id, _late(error))

        return LateJson(
            answer,
            self.edge.connections,
            idle_s=self.edge.settings.heartbeat_s,
            send_timeout_s=self.edge.settings.send_timeout_s,
            headers={},
        )

    def stream(self, first: a2a.Task, tasks: Tasks, sent: Sent | None) -> Response:
        """Streams a task, and then what happens to it; each event is a JSON-RPC response."""

        def framed(event: BaseModel) -> bytes:
            return event_frame("message", self.result(self.version.event(as_json(event))))

        async def frames() -> AsyncIterator[bytes]:
            yield framed(first)
            if sent is None:
                return
            events = tasks.events(sent)
            try:
                async for event in events:
                    yield framed(event)
            except (A2AError, GreenroomError) as error:
                yield event_frame("message", error_body(self.id, _late(error)))
            finally:
                await close(events)

        return EventStream(
            frames(),
            self.edge.connections,
            idle_s=self.edge.settings.heartbeat_s,
            send_timeout_s=self.edge.settings.send_timeout_s,
            headers={},
        )


def as_json(model: BaseModel) -> JsonObject:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def error_body(request_id: Any, error: A2AError) -> bytes:
    code = JSON_RPC_ERROR_CODE_MAP.get(type(error), -32603)
    told = {"code": code, "message": error.message}
    return dumps({"jsonrpc": "2.0", "id": request_id, "error": told})


def as_a2a(error: A2AError | GreenroomError) -> A2AError:
    """Returns an error of the domain as one of the protocol.

    Raises:
        GreenroomError: ``error``, which the HTTP status tells: a repetition may help, or it is
            about the request's size.
    """
    match error:
        case A2AError():
            return error
        case InvalidRequest() | BadRequest() | NotFound() | Refused():
            return InvalidParamsError(error.message)
        case Conflict():
            return UnsupportedOperationError(error.message)
        case Unavailable():
            raise error
        case _ if error.status_hint != 500:
            raise error
        case _:
            log.error("A request of A2A failed: %s", error, exc_info=error)
            return InternalError("Internal server error")


def _late(error: A2AError | GreenroomError) -> A2AError:
    """Returns an error for an answer that has begun, so its HTTP status is sent.

    Raises:
        Unavailable: ``error``, which breaks the answer off: the client comes again.
    """
    if isinstance(error, GreenroomError) and not isinstance(error, Unavailable):
        try:
            return as_a2a(error)
        except GreenroomError:
            return InternalError(error.message)
    return as_a2a(error)
