"""The JSON of the two versions of the A2A protocol.

Tasks are made with the models of version 0.3 (`a2a.compat.v0_3.types`). Version 1.0 has the same
contents in other words, and this module translates them, as `a2a.compat.v0_3.conversions` does for
Protocol Buffers. Those turn each number of a data part into a float (3 into 3.0), which a graph
with an integer in its input would refuse, so the JSON is translated itself.

    0.3                                          1.0
    {"kind": "text", "text": "hi"}               {"text": "hi"}
    {"kind": "file", "file": {"bytes", ...}}     {"raw", "mediaType", "filename"}
    {"kind": "file", "file": {"uri", ...}}       {"url", "mediaType", "filename"}
    "role": "user"                               "role": "ROLE_USER"
    "state": "input-required"                    "state": "TASK_STATE_INPUT_REQUIRED"
    "blocking": false                            "returnImmediately": true
    {"kind": "task", ...}                        {"task": {...}} where an answer has several kinds
    "final": true                                the state says it
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from greenroom.core.ports import JsonObject
from greenroom.wire.encoding import is_list, is_object

_WRAPPED = {"task": "task", "status-update": "statusUpdate", "artifact-update": "artifactUpdate"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """One version of the protocol.

    Attributes:
        name: e.g. ``0.3``.
        params: makes parameters of version 0.3 of a request's.
        task: makes the result of a method whose result is always a task, of version 0.3's JSON.
        event: the same for a result, or a stream's event, of several kinds.
    """

    name: str
    params: Callable[[JsonObject], JsonObject]
    task: Callable[[JsonObject], JsonObject]
    event: Callable[[JsonObject], JsonObject]


def _same(value: JsonObject) -> JsonObject:
    return value


# --- requests -------------------------------------------------------------------------------------


def _params(params: JsonObject) -> JsonObject:
    found = dict(params)
    if is_object(message := found.get("message")):
        found["message"] = _message_in(message)
    if is_object(configuration := found.get("configuration")):
        at_once = configuration.get("returnImmediately")
        found["configuration"] = {
            **{k: v for k, v in configuration.items() if k != "returnImmediately"},
            "blocking": not at_once if isinstance(at_once, bool | None) else at_once,
            "pushNotificationConfig": _push_in(configuration.get("taskPushNotificationConfig")),
        }
    return found


def _push_in(config: Any) -> Any:
    about: Any = config.get("authentication") if is_object(config) else None
    if not is_object(about) or "scheme" not in about:
        return config
    rest = {key: value for key, value in about.items() if key != "scheme"}
    return {**config, "authentication": {**rest, "schemes": [about["scheme"]]}}


def _message_in(message: JsonObject) -> JsonObject:
    parts = message.get("parts")
    found = {**message, "parts": [_part_in(part) for part in parts] if is_list(parts) else parts}
    if isinstance(role := message.get("role"), str):
        found["role"] = role.removeprefix("ROLE_").lower()
    # Absent and empty are the same in version 1.0.
    return {k: v for k, v in found.items() if v != ""}


def _part_in(part: Any) -> Any:
    if not is_object(part) or "kind" in part:
        return part
    rest = {"metadata": part["metadata"]} if part.get("metadata") else {}
    if "text" in part:
        return {"kind": "text", "text": part["text"], **rest}
    if "data" in part:
        return {"kind": "data", "data": part["data"], **rest}
    names = {"raw": "bytes", "url": "uri", "mediaType": "mimeType", "filename": "name"}
    file = {names[key]: value for key, value in part.items() if key in names and value != ""}
    return {"kind": "file", "file": file, **rest}


# --- answers --------------------------------------------------------------------------------------


def _task_out(task: JsonObject) -> JsonObject:
    found = {k: v for k, v in task.items() if k != "kind"}
    found["status"] = _status_out(task["status"])
    for name, convert in (("history", _message_out), ("artifacts", _artifact_out)):
        if name in task:
            found[name] = [convert(item) for item in task[name]]
    return found


def _event_out(event: JsonObject) -> JsonObject:
    name = _WRAPPED[event["kind"]]
    if name == "task":
        return {name: _task_out(event)}
    found = {k: v for k, v in event.items() if k not in ("kind", "final")}
    if name == "statusUpdate":
        found["status"] = _status_out(event["status"])
    else:
        found["artifact"] = _artifact_out(event["artifact"])
    return {name: found}


def _status_out(status: JsonObject) -> JsonObject:
    state = f"TASK_STATE_{status['state'].upper().replace('-', '_')}"
    found = {**status, "state": state}
    if "message" in status:
        found["message"] = _message_out(status["message"])
    return found


def _message_out(message: JsonObject) -> JsonObject:
    found = {k: v for k, v in message.items() if k != "kind"}
    found["role"] = f"ROLE_{message['role'].upper()}"
    found["parts"] = [_part_out(part) for part in message["parts"]]
    return found


def _artifact_out(artifact: JsonObject) -> JsonObject:
    return {**artifact, "parts": [_part_out(part) for part in artifact["parts"]]}


def _part_out(part: JsonObject) -> JsonObject:
    if part["kind"] != "file":
        return {k: v for k, v in part.items() if k != "kind"}
    names = {"bytes": "raw", "uri": "url", "mimeType": "mediaType", "name": "filename"}
    return {names[key]: value for key, value in part["file"].items()}


V03 = Version(name="0.3", params=_same, task=_same, event=_same)
V10 = Version(name="1.0", params=_params, task=_task_out, event=_event_out)
