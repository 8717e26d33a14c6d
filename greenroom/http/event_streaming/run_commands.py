"""The commands of event streaming that are about runs."""

from __future__ import annotations

from typing import Any

from greenroom.core.answering import NOTHING, Answers, PendingInterrupts
from greenroom.core.errors import NotAwaited
from greenroom.core.ports import JsonObject
from greenroom.http.bodies import validated
from greenroom.http.creation import NewRun, create_run
from greenroom.http.event_streaming.asking import Asked, CommandError, assistant_named
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
    run = await _started(asked, body)
    return {"run_id": run.run_id}


async def _started(asked: Asked, body: RunCreate) -> NewRun:
    """Creates a run. Where the thread is read, a client waits for it, so only a thread that waits
    is read."""
    configurable = (body.config or {}).get("configurable") or {}
    goes_back = body.checkpoint_id or body.checkpoint or configurable.get("checkpoint_id")
    if body.input is None or goes_back:
        return await created(asked, body, None)
    try:
        return await created(asked, body, None, NOTHING)
    except NotAwaited:
        pending = await _pending(asked)
    if pending is None or not pending.values:
        return await created(asked, body, None)
    ids = tuple(pending.values)
    resume: Any = body.input
    if len(ids) == 1 and not _is_answers(body.input, ids):
        resume = {ids[0]: body.input}
    try:
        answers = Answers(ids=ids, mark=pending.mark)
        return await created(asked, body, {"resume": resume}, answers)
    except NotAwaited:  # somebody else has answered, so this is the input of the next run
        return await created(asked, body, None)


def _is_answers(given: Any, ids: tuple[str, ...]) -> bool:
    return is_object(given) and bool(given) and set(given) <= set(ids)


async def respond(asked: Asked) -> JsonObject:
    """``input.respond``: answers interrupts, in one new run of the thread's assistant.

    Of two answers to one interrupt the registry admits the first one.
    """
    params, resume = asked.params, _resume_of(asked.params)
    command = {"resume": resume}
    command |= {name: params[name] for name in ("update", "goto") if params.get(name) is not None}
    first = pending = await _pending(asked)
    is_repeated = asked.ids.run_on(asked.thread_id).is_made
    while True:
        if not is_repeated:
            _refuse_unless_pending(resume, first, pending)
        body = validated(
            RunCreate,
            {
                "assistant_id": assistant_named(asked.thread_id, pending and pending.assistant_id),
                "config": params.get("config"),
                "metadata": params.get("metadata"),
            },
        )
        mark = pending.mark if pending is not None else ""
        try:
            run = await created(asked, body, command, Answers(ids=tuple(resume), mark=mark))
        except NotAwaited:
            pending = await _pending(asked)
            if pending is not None and pending.mark == mark:
                raise _unknown_interrupt(next(iter(resume))) from None  # it is being answered
        else:
            return {"run_id": run.run_id}


def _resume_of(params: JsonObject) -> JsonObject:
    """Returns the answers by the ids of their interrupts. Raises CommandError."""
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
    return resume


def _refuse_unless_pending(
    resume: JsonObject, first: PendingInterrupts | None, now: PendingInterrupts | None
) -> None:
    """Refuses answers to interrupts that are not pending, or are not those that were when the
    command came: a node that asks again asks under the same id."""
    if first is None or now is None or now.assistant_id is None:
        raise CommandError("no_such_run", "No interrupted run is bound to this thread.")
    for interrupt_id in resume:
        if interrupt_id not in now.values or (
            now.values[interrupt_id] != first.values.get(interrupt_id)
        ):
            raise _unknown_interrupt(interrupt_id)


def _unknown_interrupt(interrupt_id: str) -> CommandError:
    return CommandError(
        "no_such_interrupt", f"Unknown or already-consumed interrupt: {interrupt_id[:80]}"
    )


async def _pending(asked: Asked) -> PendingInterrupts | None:
    scope = await reads_thread(asked.edge, asked.thread_id)
    return await asked.edge.records.pending_interrupts(asked.thread_id, scope=scope)


async def created(
    asked: Asked, body: RunCreate, command: JsonObject | None, answers: Answers | None = None
) -> NewRun:
    """Creates a run for the thread's log.

    Args:
        command: instead of the body's input.
        answers: as of `RunRequest`.

    Raises:
        NotAwaited: the thread does not wait for ``answers``.
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
        asked.ids.run_on(asked.thread_id),
        logged=True,
        answers=answers,
    )


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
