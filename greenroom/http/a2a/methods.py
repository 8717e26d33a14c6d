"""The methods of the A2A protocol."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from fnmatch import fnmatch
from typing import Any

from a2a.compat.v0_3 import types as a2a
from a2a.utils.errors import (
    ContentTypeNotSupportedError,
    InvalidParamsError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from starlette.responses import Response

from greenroom.core.ports import JsonObject
from greenroom.http.a2a.calls import Call, as_json
from greenroom.http.a2a.cards import card
from greenroom.http.a2a.listings import Listing
from greenroom.http.a2a.pushes import MOST, content_of, shown
from greenroom.http.a2a.tasks import Sent, Tasks
from greenroom.http.a2a.versions import V03, V10, Version
from greenroom.http.a2a.views import History, State, View
from greenroom.wire.encoding import is_list, is_object
from greenroom.wire.models import MAX_OFFSET

_OUTPUTS = ("text/plain", "application/json", "text")
_KINDS = ("text", "data", "file")
_PAGE = 50
_LARGEST_PAGE = 100


async def _send(call: Call) -> Response:
    params, history = _message(call)
    tasks = await call.tasks()
    sent = await _sent(call, tasks, params)
    if params.configuration is not None and params.configuration.blocking is False:
        task = View(turn=sent.turn, state=State.submitted).submitted(params.message)
        return call.answer(call.version.event(as_json(task)))

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
    given = _configuration(call).get("pushNotificationConfig")
    push = content_of(call.edge, given, call.version.name) if given is not None else None
    sent = await tasks.send(params.message, params.metadata or {})
    if push is not None:
        turn, (config_id, content) = sent.turn, push
        await call.edge.records.put_push(
            turn.task_id, turn.context_id, config_id, content, tells=True
        )
    return sent


def _configuration(call: Call) -> JsonObject:
    found: Any = call.params.get("configuration")
    return found if is_object(found) else {}


async def _get(call: Call) -> Response:
    params = call.parsed(a2a.TaskQueryParams)
    history = call.history(params.history_length)
    view = await (await call.tasks()).records.get(params.id, _context_id(call))
    return call.answer(call.version.task(call.task(view, history)))


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
    view = await tasks.records.get(params.id, _context_id(call))
    task = view.task(call.history(None))
    if view.state in (State.submitted, State.working):
        return call.stream(task, tasks, Sent(turn=view.turn, placement=None))
    if view.state is State.input_required:
        return call.stream(task, tasks, None)
    raise UnsupportedOperationError(f"The task is {view.state.value}; there is nothing to follow.")


async def _card(call: Call) -> Response:
    return call.answer(await card(call.request, call.assistant_id))


# --- push notifications ---------------------------------------------------------------------------


async def _put_push(call: Call) -> Response:
    params = call.params
    turn = (await (await call.tasks()).records.get(_task_id(params, "taskId"), None)).turn
    config: Any = params.get("pushNotificationConfig") if call.version is V03 else params
    config_id, content = content_of(call.edge, config, call.version.name)
    known = await call.edge.records.list_pushes(turn.task_id)
    if len(known) >= MOST and config_id not in [each["id"] for each in known]:
        raise InvalidParamsError(f"The task has {MOST} push notification configs; delete one.")
    await call.edge.records.put_push(turn.task_id, turn.context_id, config_id, content, tells=False)
    return call.answer(shown(turn.task_id, {**content, "id": config_id}, call.version.name))


async def _get_push(call: Call) -> Response:
    task_id, config_id, known = await _pushes(call)
    for config in known:
        # Version 0.3 may leave the id out: the first one.
        if config_id in (None, "", config["id"]):
            return call.answer(shown(task_id, config, call.version.name))
    raise TaskNotFoundError("The task has no such push notification config.")


async def _list_pushes(call: Call) -> Response:
    task_id, _, known = await _pushes(call)
    configs = [shown(task_id, config, call.version.name) for config in known]
    if call.version is V03:
        return call.answer(configs)
    return call.answer({"configs": configs, "nextPageToken": ""})


async def _delete_push(call: Call) -> Response:
    task_id, config_id, _ = await _pushes(call)
    if not config_id:
        raise InvalidParamsError("The id of the push notification config is required.")
    await call.edge.records.delete_push(task_id, config_id)
    return call.answer(None if call.version is V03 else {})


async def _pushes(call: Call) -> tuple[str, str | None, list[JsonObject]]:
    """Returns the task that a request names, the config that it names, and the task's configs."""
    old = call.version is V03
    task_id = _task_id(call.params, "id" if old else "taskId")
    turn = (await (await call.tasks()).records.get(task_id, None)).turn
    config_id: Any = call.params.get("pushNotificationConfigId" if old else "id")
    if config_id is not None and not isinstance(config_id, str):
        raise InvalidParamsError("The id of the push notification config must be a string.")
    return turn.task_id, config_id, await call.edge.records.list_pushes(turn.task_id)


def _task_id(params: JsonObject, name: str) -> str:
    task_id: Any = params.get(name)
    if not isinstance(task_id, str):
        raise InvalidParamsError(f"{name} must be the id of a task.")
    return task_id


# --- parameters -----------------------------------------------------------------------------------


async def _list(call: Call) -> Response:
    params = call.params
    size = _number(params, "pageSize", _PAGE, 1, _LARGEST_PAGE)
    token: Any = params.get("pageToken") or "0"
    if not (isinstance(token, str) and token.isascii() and token.isdigit() and len(token) < 10):
        raise InvalidParamsError("pageToken must be the nextPageToken of another page.")
    history = call.history(_number(params, "historyLength", 0, 0, MAX_OFFSET))
    context_id = _context_id(call)
    tasks = await call.tasks()
    found = await tasks.records.listed(
        Listing(
            size=size,
            offset=int(token),
            context_id=context_id or None,
            state=_state(params.get("status")),
            since=_since(params.get("statusTimestampAfter")),
        )
    )
    shown = [call.task(view, history) for view in found.views]
    if not params.get("includeArtifacts"):
        shown = [{k: v for k, v in task.items() if k != "artifacts"} for task in shown]
    return call.answer(
        {
            "tasks": [call.version.task(task) for task in shown],
            "nextPageToken": "" if found.next_offset is None else str(found.next_offset),
            "pageSize": size,
            "totalSize": found.total,
        }
    )


def _number(params: JsonObject, name: str, default: int, least: int, most: int) -> int:
    value: Any = params.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidParamsError(f"{name} must be an integer between {least} and {most}.")
    return value


def _state(value: Any) -> State | None:
    if not value or value == "TASK_STATE_UNSPECIFIED":
        return None
    name = str(value).removeprefix("TASK_STATE_").lower().replace("_", "-")
    try:
        return State(name)
    except ValueError:
        raise InvalidParamsError(f"Invalid status value: {str(value)[:80]!r}.") from None


def _since(value: Any) -> datetime | None:
    if not value:
        return None
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        raise InvalidParamsError("statusTimestampAfter must be a time in ISO 8601.") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


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


METHODS: dict[str, tuple[Version, Callable[[Call], Awaitable[Response]]]] = {
    "message/send": (V03, _send),
    "message/stream": (V03, _send_stream),
    "tasks/get": (V03, _get),
    "tasks/cancel": (V03, _cancel),
    "tasks/resubscribe": (V03, _subscribe),
    "tasks/pushNotificationConfig/set": (V03, _put_push),
    "tasks/pushNotificationConfig/get": (V03, _get_push),
    "tasks/pushNotificationConfig/list": (V03, _list_pushes),
    "tasks/pushNotificationConfig/delete": (V03, _delete_push),
    "agent/getAuthenticatedExtendedCard": (V03, _card),
    "SendMessage": (V10, _send),
    "SendStreamingMessage": (V10, _send_stream),
    "GetTask": (V10, _get),
    "CancelTask": (V10, _cancel),
    "ListTasks": (V10, _list),
    "SubscribeToTask": (V10, _subscribe),
    "CreateTaskPushNotificationConfig": (V10, _put_push),
    "GetTaskPushNotificationConfig": (V10, _get_push),
    "ListTaskPushNotificationConfigs": (V10, _list_pushes),
    "DeleteTaskPushNotificationConfig": (V10, _delete_push),
    "GetExtendedAgentCard": (V10, _card),
}
