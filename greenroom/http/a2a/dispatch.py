"""JSON-RPC of the A2A protocol: one request, one method, one answer or stream.

The name of a method tells the version of the protocol (`greenroom.http.a2a.versions`). An error of
the protocol is an answer with HTTP status 200; a server that cannot answer now says 503, as on all
routes, since clients and proxies repeat such requests.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any, TypeVar

from a2a.compat.v0_3 import types as a2a
from a2a.utils.errors import (
    JSON_RPC_ERROR_CODE_MAP,
    A2AError,
    ContentTypeNotSupportedError,
    InternalError,
    InvalidParamsError,
    InvalidRequestError,
    JSONParseError,
    MethodNotFoundError,
    PushNotificationNotSupportedError,
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
    Unavailable,
)
from greenroom.core.ports import JsonObject
from greenroom.http.a2a.cards import HISTORY_SCOPE, card
from greenroom.http.a2a.tasks import Sent, Tasks
from greenroom.http.a2a.versions import V03, V10, Version
from greenroom.http.a2a.views import History, State, View
from greenroom.http.answering import json
from greenroom.http.bodies import read_body
from greenroom.http.creation import assistant_of
from greenroom.http.edge import Edge, dialect_of, edge_of
from greenroom.http.errors import invalid_body
from greenroom.http.streaming import EventStream, LateJson, close
from greenroom.wire.encoding import INVALID_JSON, dumps, is_list, is_object
from greenroom.wire.sse import event_frame

log = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)

_OUTPUTS = ("text/plain", "application/json", "text")
_KINDS = ("text", "data", "file")
_NO_PUSH = (
    "Push notifications are not supported. Stream the task, subscribe to it again, or ask for it."
)


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
        assistant = await assistant_of(self.edge, dialect, self.assistant_id)
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

    def task(self, view: View, history: History) -> JsonObject:
        return _json(view.task(history))

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
            return event_frame("message", self.result(self.version.event(_json(event))))

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


async def answered(request: Request, assistant_id: str) -> Response:
    """Answers one JSON-RPC request.

    Raises:
        TooLarge, TooManyRequests, Unavailable, Unreachable: as on other routes.
    """
    found: Any = None
    try:
        try:
            found = await read_body(request)
        except InvalidRequest as error:
            if error.message == INVALID_JSON:
                raise JSONParseError("Invalid JSON payload") from None
            raise InvalidRequestError(error.message) from None
        version, answer = _method(found)
        params = _params(found)
        call = Call(
            request=request,
            assistant_id=assistant_id,
            id=_id(found),
            version=version,
            params=version.params(params),
        )
        return await answer(call)
    except (A2AError, GreenroomError) as error:
        return Response(error_body(_id(found), as_a2a(error)), media_type="application/json")


def _method(found: Any) -> tuple[Version, Callable[[Call], Awaitable[Response]]]:
    if not is_object(found):
        raise InvalidRequestError("Invalid message format: expected object")
    if found.get("jsonrpc") != "2.0":
        raise InvalidRequestError("Invalid JSON-RPC message: jsonrpc must be '2.0'.")
    request_id: Any = found.get("id")
    if isinstance(request_id, bool) or not isinstance(request_id, str | int | float | None):
        raise InvalidRequestError("Invalid JSON-RPC message: id must be a string or a number.")
    method: Any = found.get("method")
    if not isinstance(method, str) or not method:
        raise InvalidRequestError("Invalid JSON-RPC request: missing 'method' field")
    if method not in _METHODS:
        raise MethodNotFoundError(f"Method not found: {method[:255]}")
    return _METHODS[method]


def _params(found: JsonObject) -> JsonObject:
    params: Any = found.get("params")
    if params is None:
        return {}
    if not is_object(params):
        raise InvalidParamsError("params must be an object.")
    return params


def _id(found: Any) -> Any:
    request_id: Any = found.get("id") if is_object(found) else None
    valid = isinstance(request_id, str | int | float) and not isinstance(request_id, bool)
    return request_id if valid else None


# --- methods --------------------------------------------------------------------------------------


async def _send(call: Call) -> Response:
    params, history = _message(call)
    tasks = await call.tasks()
    sent = await _sent(call, tasks, params)
    if params.configuration is not None and params.configuration.blocking is False:
        task = View(turn=sent.turn, state=State.submitted).submitted(params.message)
        return json(_response(call, call.version.event(_json(task))))

    async def ended() -> bytes:
        view = await tasks.ended(sent)
        return call.result(call.version.event(call.task(view, history)))

    return call.late(ended)


async def _send_stream(call: Call) -> Response:
    params, _ = _message(call)
    tasks = await call.tasks()
    sent = await _sent(call, tasks, params)
    task = View(turn=sent.turn, state=State.submitted).submitted(params.message)
    return call.stream(task, tasks, sent)


async def _sent(call: Call, tasks: Tasks, params: a2a.MessageSendParams) -> Sent:
    return await tasks.send(params.message, params.metadata or {})


async def _get(call: Call) -> Response:
    params = call.parsed(a2a.TaskQueryParams)
    history = call.history(params.history_length)
    view = await (await call.tasks()).get(params.id, _context_id(call))
    return json(_response(call, call.version.task(call.task(view, history))))


async def _cancel(call: Call) -> Response:
    params = call.parsed(a2a.TaskIdParams)
    history, tasks = call.history(None), await call.tasks()
    context_id = _context_id(call)

    async def canceled() -> bytes:
        view = await tasks.cancel(params.id, context_id)
        return call.result(call.version.task(call.task(view, history)))

    return call.late(canceled)


async def _subscribe(call: Call) -> Response:
    params = call.parsed(a2a.TaskIdParams)
    tasks = await call.tasks()
    view = await tasks.get(params.id, _context_id(call))
    task = view.task(call.history(None))
    if view.state in (State.submitted, State.working):
        return call.stream(task, tasks, Sent(turn=view.turn, placement=None))
    if view.state is State.input_required:
        return call.stream(task, tasks, None)
    raise UnsupportedOperationError(f"The task is {view.state.value}; there is nothing to follow.")


async def _card(call: Call) -> Response:
    return json(_response(call, await card(call.request, call.assistant_id)))


async def _no_push(call: Call) -> Response:
    raise PushNotificationNotSupportedError(_NO_PUSH)


_METHODS: dict[str, tuple[Version, Callable[[Call], Awaitable[Response]]]] = {
    "message/send": (V03, _send),
    "message/stream": (V03, _send_stream),
    "tasks/get": (V03, _get),
    "tasks/cancel": (V03, _cancel),
    "tasks/resubscribe": (V03, _subscribe),
    "tasks/pushNotificationConfig/set": (V03, _no_push),
    "tasks/pushNotificationConfig/get": (V03, _no_push),
    "tasks/pushNotificationConfig/list": (V03, _no_push),
    "tasks/pushNotificationConfig/delete": (V03, _no_push),
    "agent/getAuthenticatedExtendedCard": (V03, _card),
    "SendMessage": (V10, _send),
    "SendStreamingMessage": (V10, _send_stream),
    "GetTask": (V10, _get),
    "CancelTask": (V10, _cancel),
    "SubscribeToTask": (V10, _subscribe),
    "CreateTaskPushNotificationConfig": (V10, _no_push),
    "GetTaskPushNotificationConfig": (V10, _no_push),
    "ListTaskPushNotificationConfigs": (V10, _no_push),
    "DeleteTaskPushNotificationConfig": (V10, _no_push),
    "GetExtendedAgentCard": (V10, _card),
}


def _message(call: Call) -> tuple[a2a.MessageSendParams, History]:
    """Returns the parameters of a message that is sent, and the history that its answer shows.

    Raises:
        A2AError: the server cannot honour something in them.
    """
    _refuse_other_parts(call.params.get("message"))
    params = call.parsed(a2a.MessageSendParams)
    if not params.message.parts:
        raise InvalidParamsError("Message must contain at least one part")
    if not params.message.message_id:
        raise InvalidParamsError("message.messageId must not be empty.")
    configuration = params.configuration
    if configuration is None:
        return params, call.history(None)
    if configuration.push_notification_config is not None:
        raise PushNotificationNotSupportedError(_NO_PUSH)
    accepted = configuration.accepted_output_modes
    if accepted and not any(fnmatch(each, mode) for mode in accepted for each in _OUTPUTS):
        raise ContentTypeNotSupportedError(
            "acceptedOutputModes must have text/plain or application/json, or be left out."
        )
    return params, call.history(configuration.history_length)


def _refuse_other_parts(message: Any) -> None:
    given: Any = message.get("parts") if is_object(message) else None
    for part in given if is_list(given) else []:
        if is_object(part) and (kind := part.get("kind", "text")) not in _KINDS:
            raise ContentTypeNotSupportedError(
                f"A part must be of the kind text, data or file, not {str(kind)[:80]!r}."
            )


def _context_id(call: Call) -> str | None:
    context_id: Any = call.params.get("contextId")
    if context_id is not None and not isinstance(context_id, str):
        raise InvalidParamsError("contextId must be a string.")
    return context_id


# --- answers --------------------------------------------------------------------------------------


def _response(call: Call, result: Any) -> JsonObject:
    return {"jsonrpc": "2.0", "id": call.id, "result": result}


def _json(model: BaseModel) -> JsonObject:
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
        case InvalidRequest() | BadRequest() | NotFound():
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
