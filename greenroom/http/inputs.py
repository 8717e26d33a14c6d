"""Speaks to a run that has been created already: its routes, and the operation behind them.

`say` is the one entry point, for every protocol.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.errors import RUN_NOT_FOUND, InvalidRequest, NotFound
from greenroom.core.inputs import Injection, NewInput, SaidInput, injected_id
from greenroom.core.ports import InputQuestion, JsonObject
from greenroom.core.runs import RunStatus
from greenroom.core.scopes import SERVER
from greenroom.http.answering import json
from greenroom.http.bodies import parse
from greenroom.http.documents import doc
from greenroom.http.edge import Edge, dialect_of, edge_of
from greenroom.http.gates import creates_run, reads_thread
from greenroom.http.idempotency import NEW, Ids, once
from greenroom.http.limits import reserving
from greenroom.http.parameters import thread_id_of, uuid_of
from greenroom.sealing.runs import sealed_run
from greenroom.wire import answers
from greenroom.wire.encoding import dumps
from greenroom.wire.models import InputCreate, RunCreate
from greenroom.wire.requests import plain

router = APIRouter(tags=["Thread runs"])

_NOTHING = "Say something: 'input' is a state update, or 'command' has an 'update' or a 'goto'."
_RESUMES = (
    "'command.resume' answers an interrupt, and the run does not wait at one. Leave it out, or"
    " create a run with it when the thread is interrupted."
)


@router.post(
    "/threads/{thread_id}/runs/{run_id}/input",
    summary="Say something to a run while it is executed",
    **doc({202: answers.RunInput}, body=InputCreate, once=True, errors=(400, 404, 409)),
)
async def create(request: Request, thread_id: str, run_id: str) -> Response:
    edge, thread_id, run_id = _addressed(request, thread_id, run_id)
    body = await parse(request, InputCreate)
    said = await once(request, lambda ids: say(edge, thread_id, run_id, body, ids=ids))
    return json(_answer(run_id, said), status=202)


@router.get(
    "/threads/{thread_id}/runs/{run_id}/input",
    summary="List what was said to a run, and what became of it",
    **doc({200: list[answers.RunInput]}, errors=(404,)),
)
async def list_inputs(request: Request, thread_id: str, run_id: str) -> Response:
    edge, thread_id, run_id = _addressed(request, thread_id, run_id)
    scope = await reads_thread(edge, thread_id)
    found = await edge.records.list_inputs(thread_id, run_id, scope=scope)
    if found is None:
        raise NotFound(RUN_NOT_FOUND)
    return json(found)


async def say(
    edge: Edge, thread_id: str, run_id: str, body: InputCreate, *, ids: Ids = NEW
) -> SaidInput:
    """Says something to a run; it is durable on return.

    Args:
        run_id: the run, pending or running; what becomes of an input to another one, its
            ``if_over`` says.
        ids: the id of the input.

    Raises:
        InvalidRequest: nothing is said, or the state of the run's graph cannot take it.
        NotFound: the run does not exist for the caller.
        Conflict: the run is over.
    """
    _refuse_contradictions(body)
    run = await edge.records.get_run(thread_id, run_id, scope=SERVER)
    wanted = RunCreate(input=body.input, command=body.command)
    # The handler is asked also about a run that does not exist, so that the two answers are one.
    scope, left = await creates_run(
        edge,
        wanted,
        thread_id=thread_id,
        assistant_id=None if run is None else str(run["assistant_id"]),
        run_id=run_id,
    )
    if run is not None and not scope.is_everything:
        run = await edge.records.get_run(thread_id, run_id, scope=scope)
    if run is None:
        raise NotFound(RUN_NOT_FOUND)
    is_over = RunStatus(run["status"]).is_terminal
    if not is_over or body.as_node is not None:
        await edge.runtime.ask(_question(run, left, body.as_node))
    input_id = ids.new_id()
    new = NewInput(
        input_id=input_id,
        thread_id=thread_id,
        run_id=run_id,
        content=await _content(edge, left),
        as_node=body.as_node,
        if_over=body.if_over or "reject",
    )
    # It becomes a run of its own.
    starts = [input_id] if is_over and new.if_over == "enqueue" else []
    async with reserving(edge, starts):
        return await edge.runtime.say(new, scope=scope)


async def injection_of(edge: Edge, body: RunCreate, graph_id: str, run_id: str) -> Injection:
    """Returns what a body with the strategy ``inject`` says to the run that is active.

    Raises:
        InvalidRequest: a field of the body cannot be said to a run.
    """
    for name in ("after_seconds", "checkpoint", "checkpoint_id"):
        if getattr(body, name) is not None:
            raise InvalidRequest(
                f"{name} is about a new run, and with multitask_strategy 'inject' an active one"
                " takes the input. Leave it out, or choose a different strategy."
            )
    refusal = None
    try:
        _refuse_contradictions(InputCreate(input=body.input, command=body.command))
        configurable: Any = (body.config or {}).get("configurable") or {}
        await edge.runtime.ask(
            InputQuestion(
                graph_id=graph_id,
                said=dumps({"input": body.input, "command": body.command}),
                config={"configurable": configurable},
            )
        )
    except InvalidRequest as error:
        refusal = error.message  # only if there is a run that is active
    return Injection(
        input_id=injected_id(run_id), content=await _content(edge, body), refusal=refusal
    )


def _refuse_contradictions(body: InputCreate) -> None:
    command = body.command or {}
    if command.get("resume") is not None:
        raise InvalidRequest(_RESUMES)
    if body.command is not None and (body.input is not None or body.as_node is not None):
        raise InvalidRequest(
            "Give 'input', perhaps with 'as_node', or 'command': one of them has the update."
        )
    says = command.get("update") is not None or command.get("goto") is not None
    if body.input is None and not says:
        raise InvalidRequest(_NOTHING)


def _question(run: JsonObject, body: RunCreate, as_node: str | None) -> InputQuestion:
    config: JsonObject = plain(run["kwargs"]).get("config") or {}
    return InputQuestion(
        graph_id=config["configurable"]["graph_id"],
        said=dumps({"input": body.input, "command": body.command}),
        as_node=as_node,
        config=config,
    )


async def _content(edge: Edge, body: RunCreate) -> bytes:
    given = {"input": body.input, "command": body.command}
    return dumps(await edge.sealing.apart(sealed_run, edge.sealing, given))


def _answer(run_id: str, said: SaidInput) -> JsonObject:
    return {
        "input_id": said.input_id,
        "run_id": run_id,
        "number": said.number,
        "status": said.status,
        "for_run_id": said.run_id,
        "said_at": said.said_at,
    }


def _addressed(request: Request, thread_id: str, run_id: str) -> tuple[Edge, str, str]:
    thread_id = thread_id_of(dialect_of(request), thread_id)
    return edge_of(request), thread_id, uuid_of(run_id, "run")
