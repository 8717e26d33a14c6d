"""Creates runs: checks the body, finds its assistant, and has the run admitted.

`greenroom.wire.requests` makes the `RunRequest` of the body.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

import orjson

from greenroom import tracing
from greenroom.core.answering import Answers
from greenroom.core.errors import (
    THREAD_OR_ASSISTANT_NOT_FOUND,
    AssistantChanged,
    Conflict,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from greenroom.core.identity import system_assistant_id
from greenroom.core.ports import JsonObject
from greenroom.core.runs import CreatedRun, RunRequest
from greenroom.core.scopes import SERVER
from greenroom.http import webhooks
from greenroom.http.bodies import has_large_parts
from greenroom.http.edge import Edge
from greenroom.http.gates import creates_run, user_of_runs
from greenroom.http.idempotency import RunIds, deleted
from greenroom.http.inputs import injection_of
from greenroom.http.limits import admitting, current_caller
from greenroom.http.parameters import is_uuid
from greenroom.http.passing import passed_headers
from greenroom.sealing.runs import opened_run
from greenroom.wire import configs
from greenroom.wire.dialects import Dialect
from greenroom.wire.encoding import dumps
from greenroom.wire.models import RunCreate
from greenroom.wire.requests import plain as plain
from greenroom.wire.requests import request_of

INPUT_ID = "greenroom-input-id"
"""The header that names the input which a request with the strategy ``inject`` has become."""

_HERE = b"\0"
"""Where something else is inserted into JSON, which has no such byte."""

_MOST_CHANGES = 20
"""How often the assistant may change while a run is created with it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewRun:
    """An admitted run.

    Attributes:
        cancel_on_disconnect: cancel the run when its creator's connection ends.
        feedback_keys: of the event that ends the stream.
        stored: the run's record, if the run was there before: an earlier request with the same key
            has created it, or the strategy was ``inject``.
    """

    request: RunRequest
    created: CreatedRun
    cancel_on_disconnect: bool
    feedback_keys: tuple[str, ...] = ()
    stored: JsonObject | None = None

    @property
    def run_id(self) -> str:
        return self.created.run_id

    @property
    def is_new(self) -> bool:
        """Whether the run began with this request; else the request was said to it."""
        return self.created.injected is None

    @property
    def headers(self) -> dict[str, str]:
        """The headers that name the input which was said to the run."""
        return {} if self.created.injected is None else {INPUT_ID: self.created.injected}

    @property
    def thread_id(self) -> str:
        return self.request.thread_id


async def create_run(
    edge: Edge,
    dialect: Dialect,
    body: RunCreate,
    ids: RunIds,
    *,
    logged: bool = False,
    answers: Answers | None = None,
) -> NewRun:
    """Validates and admits a run.

    Args:
        logged: as of `request_of`.
        answers: as of `RunRequest`.

    Raises:
        InvalidRequest, BadRequest: the body is wrong (platform API, section 5).
        NotFound: the thread or the assistant does not exist.
        NotAwaited: the thread does not wait for ``answers``.
        Conflict: the thread is taken and the strategy is ``reject``; or an earlier request with
            the same key has created the run, and the run is deleted.
    """
    request = await run_request(edge, dialect, body, ids, logged=logged, answers=answers)
    return await admit(edge, dialect, body, ids, request)


async def admit(
    edge: Edge,
    dialect: Dialect,
    body: RunCreate,
    ids: RunIds,
    request: RunRequest,
) -> NewRun:
    """Admits the run that `run_request` has made with the same ids. Raises as `create_run` does."""
    created = stored = None
    try:
        for _ in range(_MOST_CHANGES):
            try:
                async with admitting(edge, [] if ids.is_made else [request]):
                    created = await edge.runtime.create(request)
                break
            except AssistantChanged:
                # What this gateway knew of the assistant is old, e.g. another one has changed it.
                request = await run_request(
                    edge,
                    dialect,
                    body,
                    ids,
                    fresh=True,
                    logged=request.logged,
                    answers=request.answers,
                )
        else:
            raise Unavailable("The assistant changes all the time. Try again in a moment.")
    except NotFound:
        if not ids.is_made:
            raise NotFound(THREAD_OR_ASSISTANT_NOT_FOUND) from None
    except Conflict:
        if not ids.is_made:
            raise
    if created is not None and created.injected is not None:
        stored = await edge.records.get_run(request.thread_id, created.run_id, scope=request.scope)
        if stored is None:
            raise deleted("run")
    elif ids.is_made:
        stored = await edge.records.get_run(request.thread_id, request.run_id, scope=request.scope)
        if stored is None and (created is None or not request.temporary):
            # Of a stateless run that is over, the registry and the actor still know the end.
            raise deleted("run")
    if created is None:
        assert stored is not None
        created = CreatedRun(
            run_id=request.run_id,
            thread_id=request.thread_id,
            created_at=stored["created_at"],
            metadata=dumps(stored["metadata"]),
            placement=None,
        )
    return NewRun(
        request=request,
        created=created,
        # Who was there before does not leave with somebody who spoke.
        cancel_on_disconnect=created.injected is None
        and (body.on_disconnect or dialect.on_disconnect) == "cancel",
        feedback_keys=tuple(body.feedback_keys or ()) if created.injected is None else (),
        stored=stored,
    )


async def run_request(
    edge: Edge,
    dialect: Dialect,
    body: RunCreate,
    ids: RunIds,
    *,
    fresh: bool = False,
    logged: bool = False,
    answers: Answers | None = None,
) -> RunRequest:
    """Makes the request for a run from a body; admits nothing. Raises as `create_run` does.

    Args:
        fresh: read the assistant from the database.
        logged: as of `request_of`.
        answers: as of `RunRequest`.
    """
    check_run(edge, body)
    if body.feedback_keys and ids.stateless and body.on_completion != "keep":
        raise InvalidRequest(
            "feedback_keys needs a run that is kept: create it on a thread, or with on_completion"
            ' "keep".'
        )
    assistant = await assistant_of(edge, dialect, body.assistant_id, fresh=fresh)
    scope, body = await creates_run(
        edge,
        body,
        thread_id=None if ids.stateless else ids.thread_id,
        assistant_id=str(assistant["assistant_id"]),
        run_id=ids.run_id,
    )
    user = await user_of_runs(edge)
    request = await edge.sealing.apart(
        partial(
            request_of,
            body,
            assistant,
            dialect=dialect,
            run_id=ids.run_id,
            thread_id=ids.thread_id,
            stateless=ids.stateless,
            scope=scope,
            user=user,
            traceparent=tracing.traceparent(),
            headers=passed_headers(),
            sealing=edge.sealing,
            logged=logged,
        ),
        large=has_large_parts(body),
    )
    if request.multitask_strategy == "inject" and not ids.stateless:
        injection = await injection_of(edge, body, request.graph_id, ids.run_id)
        request = replace(request, injection=injection)
    return replace(request, once=ids.once, caller=current_caller(edge), answers=answers)


def check_run(edge: Edge, body: RunCreate) -> None:
    """Checks what `request_of` takes for granted.

    Raises:
        InvalidRequest: the webhook, or the id of the checkpoint or the example, is wrong, or the
            config has keys that only the server sets.
    """
    if body.webhook is not None:
        webhooks.checked(
            body.webhook, edge.webhooks, allow_private=edge.settings.webhook_allow_private
        )
    configs.refuse_misplaced(body.config or {})
    example = (body.langsmith_tracer or {}).get("example_id")
    if example is not None and not is_uuid(example):
        raise InvalidRequest("langsmith_tracer.example_id must be a UUID.")
    if body.checkpoint_id is not None and not is_uuid(body.checkpoint_id):
        raise InvalidRequest("Invalid checkpoint ID")


async def encoded_run(edge: Edge, run: NewRun) -> list[bytes | memoryview]:
    """Returns the run's record for its creator: JSON in parts, of which large ones are no copies.

    A copy of tens of megabytes would hold up the answers to others.
    """
    if run.stored is not None:
        return [dumps(run.stored)]
    request, created, sealing = run.request, run.created, edge.sealing
    kwargs = request.kwargs_parts(created.metadata)
    if sealing.is_on:
        kwargs = [
            await sealing.apart(lambda: opened_run(sealing, request.kwargs_with(created.metadata)))
        ]
    record = {
        "run_id": request.run_id,
        "thread_id": request.thread_id,
        "assistant_id": request.assistant_id,
        "metadata": orjson.Fragment(created.metadata),
        "status": "pending",
        "kwargs": orjson.Fragment(_HERE),
        "multitask_strategy": request.multitask_strategy,
        "created_at": created.created_at,
        "updated_at": created.created_at,
        "langsmith_session_name": None,
        "assistant_version": request.assistant_version,
    }
    before, after = dumps(record).split(_HERE)
    return [before, *kwargs, after]


async def assistant_of(
    edge: Edge, dialect: Dialect, name: str | None, *, fresh: bool = False, strict: bool = False
) -> JsonObject:
    """Returns the assistant that a body names by its id or its graph.

    With ``auth`` the caller must be allowed to read it. The assistants of the graphs themselves
    have no owner: everybody may run them.

    Args:
        fresh: read it from the database.
        strict: the caller must be allowed to read that of a graph as well.

    Raises:
        InvalidRequest: no graph has the name, or there is none and the mount needs one.
        NotFound: no assistant has the id.
    """
    if name is None:
        name = _assumed_graph(edge, dialect)
    if is_uuid(name) and name not in edge.graphs:
        assistant_id = name.lower()
    elif await edge.serves(name):
        assistant_id = system_assistant_id(name)
    else:
        raise unknown_graph(edge, name)
    assistant = await edge.records.assistant_of_run(assistant_id, scope=SERVER, fresh=fresh)
    if not edge.gate.is_open and (strict or assistant is None or not _is_of_graph(assistant)):
        # Also for one that does not exist, so that the two answers are one.
        scope = await edge.gate.allow("assistants", "read", {"assistant_id": UUID(assistant_id)})
        assistant = await edge.records.assistant_of_run(assistant_id, scope=scope, fresh=fresh)
    if assistant is None:
        raise NotFound(THREAD_OR_ASSISTANT_NOT_FOUND)
    return assistant


def _is_of_graph(assistant: JsonObject) -> bool:
    return str(assistant["assistant_id"]) == system_assistant_id(assistant["graph_id"])


def _assumed_graph(edge: Edge, dialect: Dialect) -> str:
    if not dialect.assistant_optional:
        raise InvalidRequest("assistant_id is required.")
    if edge.default_graph is not None:
        return edge.default_graph
    if len(edge.graphs) == 1:
        return edge.graphs[0]
    raise InvalidRequest(
        "assistant_id is required: there are several graphs and none is the default one "
        f"({', '.join(edge.graphs)})."
    )


def unknown_graph(edge: Edge, name: str) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid assistant: '{name[:255]}'. Must be either:\n- A valid assistant UUID, or\n"
        f"- One of the registered graphs: {', '.join(edge.graphs)}"
    )
