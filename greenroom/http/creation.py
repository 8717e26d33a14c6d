"""Makes a complete `RunRequest` from a request body, with ``kwargs`` as in LangGraph's server.

The run's config, context and metadata override those of the assistant. Of metadata, the assistant's
give way to the thread's, those to the config's, and those to the run's; the thread's come in where
the run is admitted. ``configurable`` and
``context`` are two names for the same values: a client gives one of them, the run shows both, and
a body with both is refused.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from greenroom import tracing
from greenroom.core import identity
from greenroom.core.errors import (
    THREAD_OR_ASSISTANT_NOT_FOUND,
    AssistantChanged,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from greenroom.core.identity import system_assistant_id
from greenroom.core.ports import JsonObject
from greenroom.core.runs import CreatedRun, RunFacts, RunRequest
from greenroom.http import configs, webhooks
from greenroom.http.edge import Edge
from greenroom.http.parameters import is_uuid, new_id, new_run_id
from greenroom.wire.dialects import Dialect
from greenroom.wire.encoding import dumps
from greenroom.wire.models import RunCreate

_NOT_CONTEXT = frozenset(
    {"thread_id", "run_id", "checkpoint_id", "checkpoint_ns", "checkpoint_map"}
)
"""Keys of ``configurable`` that identify the run and are not part of the graph's context."""
_MOST_CHANGES = 20
"""How often the assistant may change while a run is created with it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewRun:
    """An admitted run.

    Attributes:
        cancel_on_disconnect: cancel the run when its creator's connection ends.
    """

    request: RunRequest
    created: CreatedRun
    cancel_on_disconnect: bool

    @property
    def run_id(self) -> str:
        return self.request.run_id

    @property
    def thread_id(self) -> str:
        return self.request.thread_id


async def create_run(
    edge: Edge, dialect: Dialect, body: RunCreate, thread_id: str | None
) -> NewRun:
    """Validates and admits a run.

    Args:
        thread_id: None for a stateless run, which gets a new thread.

    Raises:
        InvalidRequest, BadRequest: the body is wrong (platform API, section 5).
        NotFound: the thread or the assistant does not exist.
        Conflict: the thread is taken and the strategy is ``reject``.
    """
    request = await run_request(edge, dialect, body, thread_id)
    return await admit(edge, dialect, body, thread_id, request)


async def admit(
    edge: Edge, dialect: Dialect, body: RunCreate, thread_id: str | None, request: RunRequest
) -> NewRun:
    """Admits the run that `run_request` has made. Raises as `create_run` does."""
    for _ in range(_MOST_CHANGES):
        try:
            created = await edge.runtime.create(request)
            break
        except NotFound:
            raise NotFound(THREAD_OR_ASSISTANT_NOT_FOUND) from None
        except AssistantChanged:
            # What this gateway knew of the assistant is old, e.g. another one has changed it.
            request = await run_request(edge, dialect, body, thread_id, fresh=True)
    else:
        raise Unavailable("The assistant changes all the time. Try again in a moment.")
    return NewRun(
        request=request,
        created=created,
        cancel_on_disconnect=(body.on_disconnect or dialect.on_disconnect) == "cancel",
    )


async def run_request(
    edge: Edge, dialect: Dialect, body: RunCreate, thread_id: str | None, *, fresh: bool = False
) -> RunRequest:
    """Makes the request for a run from a body; admits nothing. Raises as `create_run` does.

    Args:
        fresh: read the assistant from the database.
    """
    webhook = _webhook(edge, body)
    configs.refuse_misplaced(body.config or {})
    if body.checkpoint_id is not None and not is_uuid(body.checkpoint_id):
        raise InvalidRequest("Invalid checkpoint ID")
    assistant = await _assistant(edge, dialect, body.assistant_id, fresh=fresh)
    stateless = thread_id is None
    thread_id = thread_id or new_id()
    run_id = new_run_id(thread_id)
    defaults = _unidentified(
        {**plain(assistant.get("metadata")), **_given(_base(assistant).get("metadata"))}
    )
    metadata = _metadata(assistant, body, stateless)
    temporary = stateless and body.on_completion != "keep"
    resumable = dialect.resumable if body.stream_resumable is None else body.stream_resumable
    kwargs = _kwargs(
        body,
        assistant,
        run_id=run_id,
        thread_id=thread_id,
        temporary=temporary,
        resumable=resumable,
    )
    facts = RunFacts(
        run_id=run_id,
        thread_id=thread_id,
        assistant_id=str(assistant["assistant_id"]),
        graph_id=assistant["graph_id"],
        temporary=temporary,
        resumable=resumable,
        resumes=kwargs["command"] is not None
        or kwargs["input"] is None
        or "checkpoint_id" in kwargs["config"]["configurable"],
        webhook=webhook,
        traceparent=tracing.traceparent(),
        assistant_version=assistant["version"],
        assistant_revision=assistant.get("revision"),
    )
    encoded, metadata_at = _encoded(kwargs, dumps({**defaults, **metadata}))
    return RunRequest(
        facts=facts,
        kwargs=encoded,
        metadata=dumps(metadata),
        defaults=dumps(defaults),
        metadata_at=metadata_at,
        thread_config=dumps({**_given(_of_thread(body)), "configurable": {}}),
        multitask_strategy=body.multitask_strategy or dialect.multitask_strategy,
        create_thread=stateless or (body.if_not_exists or dialect.if_not_exists) == "create",
        after_s=max(0.0, float(body.after_seconds or 0)),
    )


def run_object(run: NewRun) -> JsonObject:
    """Returns the run's record for its creator."""
    request, created = run.request, run.created
    return {
        "run_id": request.run_id,
        "thread_id": request.thread_id,
        "assistant_id": request.assistant_id,
        "metadata": orjson.Fragment(created.metadata),
        "status": "pending",
        "kwargs": orjson.Fragment(request.kwargs_with(created.metadata)),
        "multitask_strategy": request.multitask_strategy,
        "created_at": created.created_at,
        "updated_at": created.created_at,
        "langsmith_session_name": None,
        "assistant_version": request.assistant_version,
    }


async def _assistant(edge: Edge, dialect: Dialect, name: str | None, *, fresh: bool) -> JsonObject:
    if name is None:
        name = _assumed_graph(edge, dialect)
    if is_uuid(name) and name not in edge.graphs:
        assistant_id = name.lower()
    elif await edge.serves(name):
        assistant_id = system_assistant_id(name)
    else:
        raise unknown_graph(edge, name)
    assistant = await edge.records.assistant_of_run(assistant_id, fresh=fresh)
    if assistant is None:
        raise NotFound(THREAD_OR_ASSISTANT_NOT_FOUND)
    return assistant


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


def _webhook(edge: Edge, body: RunCreate) -> str | None:
    if body.webhook is None:
        return None
    return webhooks.checked(body.webhook, allow_private=edge.settings.webhook_allow_private)


def _metadata(assistant: JsonObject, body: RunCreate, stateless: bool) -> JsonObject:
    own = {"assistant_id": str(assistant["assistant_id"])}
    if not stateless:
        own = {"graph_id": assistant["graph_id"], **own}
    given = _unidentified({**_own(body, "metadata"), **(body.metadata or {})})
    # Twice: first for the key order of LangGraph's server, then so that a client cannot forge it.
    return {**own, **given, **own}


def _unidentified(metadata: JsonObject) -> JsonObject:
    """Returns metadata without the keys that name a run and its thread: they may be forged."""
    return {key: value for key, value in metadata.items() if key not in ("thread_id", "run_id")}


def _base(assistant: JsonObject) -> JsonObject:
    """Returns the assistant's config, without the keys of a run or a checkpoint."""
    base = identity.fields_of(plain(assistant.get("config")))
    if "configurable" in base:
        base["configurable"] = identity.without(base["configurable"])
    return base


def _of_thread(body: RunCreate) -> JsonObject:
    """Returns the config of a thread's newest run, as the thread's record shows it."""
    config = identity.fields_of(body.config or {})
    return {key: value for key, value in config.items() if key != "configurable"}


def _encoded(kwargs: JsonObject, metadata: bytes) -> tuple[bytes, tuple[int, int]]:
    """Returns ``kwargs`` as JSON with the config's metadata, and where that begins and ends.

    The admission replaces it there, without a look at the rest, which may be large.
    """
    names = list(kwargs)
    first = names.index("config") + 1
    # Views, since a slice of bytes is a copy.
    parts = (
        memoryview(dumps({name: kwargs[name] for name in names[:first]}))[:-2],
        b',"metadata":',
        metadata,
        b"},",
        memoryview(dumps({name: kwargs[name] for name in names[first:]}))[1:],
    )
    begin = len(parts[0]) + len(parts[1])
    return b"".join(parts), (begin, begin + len(metadata))


def _kwargs(
    body: RunCreate,
    assistant: JsonObject,
    *,
    run_id: str,
    thread_id: str,
    temporary: bool,
    resumable: bool,
) -> JsonObject:
    """Returns the run's ``kwargs``, without the config's metadata (`_encoded`)."""
    base = _base(assistant)
    config: JsonObject = {**base, **_given(body.config)}
    own = _configurable(body)
    # Key by key, and a null of the run's overrides as well.
    configurable = {**base.get("configurable", {}), **own}
    context = {**identity.without(plain(assistant.get("context"))), **_context(own)}
    configurable |= _identity(body, assistant, run_id, thread_id)
    if not body.context:
        # A graph may keep its memory by user, so a client's value stays.
        configurable.setdefault("user_id", "")
    config = {
        "configurable": configurable,
        **{k: v for k, v in config.items() if k not in ("configurable", "metadata")},
    }
    durability = body.durability or ("exit" if body.checkpoint_during is False else "async")
    kwargs: JsonObject = {
        "input": body.input,
        "command": _given(body.command) if body.command is not None else None,
        "config": config,
        "context": context,
        "stream_mode": _stream_mode(body),
        "interrupt_before": body.interrupt_before,
        "interrupt_after": body.interrupt_after,
        "webhook": body.webhook,
        "feedback_keys": body.feedback_keys,
        "temporary": temporary,
        "subgraphs": bool(body.stream_subgraphs),
        "resumable": resumable,
        "checkpoint_during": durability != "exit",
        "durability": durability,
    }
    if body.strict_resume:
        kwargs["strict_resume"] = True
    return kwargs


def _configurable(body: RunCreate) -> JsonObject:
    """Returns the body's ``configurable`` or ``context``."""
    configs.refuse_both(body.config or {}, body.context)
    configurable = _own(body, "configurable")
    return {**identity.unreserved({**configurable, **(body.context or {})}), **_checkpoint(body)}


def _checkpoint(body: RunCreate) -> JsonObject:
    checkpoint = _given(body.checkpoint)
    checkpoint.pop("thread_id", None)
    if body.checkpoint_id is not None:
        checkpoint["checkpoint_id"] = body.checkpoint_id
    return checkpoint


def _context(configurable: JsonObject) -> JsonObject:
    return {key: value for key, value in configurable.items() if key not in _NOT_CONTEXT}


def _identity(body: RunCreate, assistant: JsonObject, run_id: str, thread_id: str) -> JsonObject:
    return {
        "langgraph_auth_user": None,
        "langgraph_auth_user_id": "",
        "langgraph_auth_permissions": [],
        "langgraph_request_id": new_id(),
        "__request_start_time_ms__": time.time_ns() // 1_000_000,
        "__after_seconds__": body.after_seconds or 0,
        "run_id": run_id,
        "thread_id": thread_id,
        "graph_id": assistant["graph_id"],
        "assistant_id": str(assistant["assistant_id"]),
    }


def _stream_mode(body: RunCreate) -> list[str]:
    modes = body.stream_mode
    if isinstance(modes, str):
        return [modes]
    return list(dict.fromkeys(modes)) if modes else ["values"]


def _own(body: RunCreate, part: str) -> JsonObject:
    return dict((body.config or {}).get(part) or {})


def _given(part: Mapping[str, Any] | None) -> JsonObject:
    """Returns a part of the body without its nulls, which mean absence."""
    return {key: value for key, value in (part or {}).items() if value is not None}


def plain(value: Any) -> JsonObject:
    """Returns a part of a record as a dict; the part may be encoded JSON."""
    if isinstance(value, orjson.Fragment):
        value = orjson.loads(orjson.dumps(value))
    return value or {}
