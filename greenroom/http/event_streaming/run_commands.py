"""The commands of event streaming that are about runs."""

from __future__ import annotations

from typing import Any

from greenroom.core.ports import JsonObject
from greenroom.http.bodies import validated
from greenroom.http.creation import NewRun, create_run, plain
from greenroom.http.event_streaming.asking import Asked, CommandError, assistant_of
from greenroom.http.event_streaming.trees import tree_of
from greenroom.http.gates import reads_thread
from greenroom.http.inputs import say
from greenroom.http.parameters import is_uuid
from greenroom.wire.encoding import is_list, is_object
from greenroom.wire.models import InputCreate, RunCreate

_OF_RUN_START = frozenset(RunCreate.model_fields) - {
    *("command", "strict_resume", "if_not_exists", "on_disconnect", "on_completion"),
    *("stream_mode", "stream_subgraphs", "stream_resumable", "feedback_keys"),
}
_RENAMED = {"multitaskStrategy": "multitask_strategy", "forkFrom": "checkpoint_id"}


async def start(asked: Asked) -> JsonObject:
    """``run.start``: a new run; on a thread that waits for an answer, the input is the answer."""
    fields = {_RENAMED.get(key, key): value for key, value in asked.params.items()}
    if not isinstance(fields.get("assistant_id"), str):
        raise CommandError("invalid_argument", "run.start requires an assistant_id.")
    refused = sorted(set(fields) & (set(RunCreate.model_fields) - _OF_RUN_START))
    if refused:
        raise CommandError(
            "invalid_argument", f"run.start has no {', '.join(refused)}: leave it out."
        )
    body = validated(RunCreate, {name: fields[name] for name in fields if name in _OF_RUN_START})
    run = await created(asked, body, await _answer(asked, body))
    return {"run_id": run.run_id}


async def _answer(asked: Asked, body: RunCreate) -> JsonObject | None:
    """Returns the command of a run whose input answers what its thread waits for, else None."""
    configurable = (body.config or {}).get("configurable") or {}
    goes_back = body.checkpoint_id or body.checkpoint or configurable.get("checkpoint_id")
    if body.input is None or goes_back:
        return None
    thread = await asked.readable()
    waiting = _interrupts(thread)
    if not waiting:
        return None
    if len(waiting) == 1 and not _is_answers(body.input, waiting):
        return {"resume": {waiting[0]: body.input}}
    return {"resume": body.input}


def _is_answers(given: Any, waiting: list[str]) -> bool:
    return is_object(given) and bool(given) and set(given) <= set(waiting)


async def respond(asked: Asked) -> JsonObject:
    """``input.respond``: answers interrupts, in one new run of the thread's assistant."""
    params = asked.params
    answers: Any = params.get("responses", [params])
    if not is_list(answers) or not answers or not all(map(is_object, answers)):
        raise CommandError("invalid_argument", "responses must be a non-empty array of objects.")
    resume: JsonObject = {}
    for answer in answers:
        interrupt_id = answer.get("interrupt_id")
        if not isinstance(interrupt_id, str) or "response" not in answer:
            raise CommandError(
                "invalid_argument", "input.respond requires an interrupt_id and a response."
            )
        resume[interrupt_id] = answer["response"]
    thread = await asked.readable()
    waiting = _interrupts(thread)
    if thread is None or not waiting:
        raise CommandError("no_such_run", "No interrupted run is bound to this thread.")
    for interrupt_id in resume:
        if interrupt_id not in waiting:
            raise CommandError(
                "no_such_interrupt", f"Unknown or already-consumed interrupt: {interrupt_id[:80]}"
            )
    command = {"resume": resume}
    command |= {name: params[name] for name in ("update", "goto") if params.get(name) is not None}
    body = validated(
        RunCreate,
        {
            "assistant_id": assistant_of(thread),
            "config": params.get("config"),
            "metadata": params.get("metadata"),
        },
    )
    run = await created(asked, body, command)
    return {"run_id": run.run_id}


async def created(asked: Asked, body: RunCreate, command: JsonObject | None) -> NewRun:
    """Creates a run for the thread's log.

    Args:
        command: instead of the body's input.
    """
    given: JsonObject = {
        "multitask_strategy": body.multitask_strategy or "enqueue",
        "if_not_exists": "create",
    }
    if command is not None:
        given |= {"input": None, "command": command}
        if is_object(command["resume"]):
            given["strict_resume"] = True
    fields = body.model_dump(exclude_unset=True) | given
    return await create_run(
        asked.edge,
        asked.dialect,
        validated(RunCreate, fields),
        asked.thread_id,
        ids=asked.ids,
        logged=True,
    )


def _interrupts(thread: JsonObject | None) -> list[str]:
    """Returns the ids of the interrupts that a thread waits at."""
    of_tasks = plain((thread or {}).get("interrupts"))
    return [str(each.get("id")) for found in of_tasks.values() for each in found]


async def inject(asked: Asked) -> JsonObject:
    """``input.inject``: says a message to the run that is active on the thread."""
    if asked.namespace():
        raise CommandError(
            "not_supported", "A message is said to the run, not to a subgraph: leave namespace out."
        )
    message: Any = asked.params.get("message")
    if not (
        is_object(message)
        and message.get("role") in ("user", "system")
        and isinstance(message.get("content"), str)
    ):
        raise CommandError(
            "invalid_argument", "message must have a role, user or system, and a content."
        )
    edge, thread_id = asked.edge, asked.thread_id
    scope = await reads_thread(edge, thread_id)
    run: JsonObject | None = None
    for status in ("running", "pending"):
        found = await edge.records.list_runs(
            thread_id, limit=1, offset=0, status=status, scope=scope
        )
        run = run or (found[0] if found else None)
    if run is None:
        raise CommandError("no_such_run", "No active run is bound to this thread.")
    await say(
        edge,
        thread_id,
        str(run["run_id"]),
        validated(InputCreate, {"input": {"messages": [message]}}),
        ids=asked.ids,
    )
    return {}


async def get_tree(asked: Asked) -> JsonObject:
    """``agent.getTree``: the graphs of a run that is going on, or of a given one."""
    edge, thread_id = asked.edge, asked.thread_id
    scope = await reads_thread(edge, thread_id)
    run_id = asked.params.get("run_id")
    missing = CommandError("no_such_run", "No active run is bound to this thread.")
    if run_id is None:
        running = await edge.records.list_runs(
            thread_id, limit=1, offset=0, status="running", scope=scope
        )
        run = running[0] if running else None
    elif isinstance(run_id, str) and is_uuid(run_id):
        run = await edge.records.get_run(thread_id, run_id, scope=scope)
        missing = CommandError("no_such_run", f"The thread has no run {run_id}.")
    else:
        raise CommandError("invalid_argument", "run_id must be the id of a run.")
    if run is None:
        raise missing
    assistant = await edge.records.get_assistant(str(run["assistant_id"]), scope=scope)
    graph_id = str(assistant["graph_id"]) if assistant is not None else ""
    log = edge.runtime.thread_log(thread_id, since=0, scope=scope)
    return {"tree": await tree_of(log, str(run["run_id"]), graph_id)}
