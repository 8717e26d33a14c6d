"""What a request body becomes before it is a run: a complete `RunRequest`.

``kwargs`` are as in LangGraph's server. The run's config, context and metadata override those of
the assistant. Of metadata, the assistant's give way to the thread's, those to the config's, and
those to the run's; the thread's come in where the run is admitted. ``configurable`` and ``context``
are two names for the same values: a client gives one of them, the run shows both, and a body with
both is refused.

A gateway makes requests of the bodies of clients, a registry those of its crons.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import orjson
from uuid_utils import uuid7

from greenroom.core import identity
from greenroom.core.ports import JsonObject
from greenroom.core.runs import RunFacts, RunRequest
from greenroom.core.scopes import Scope
from greenroom.sealing import UNSEALED, Sealing
from greenroom.sealing.runs import sealed_run
from greenroom.wire import configs
from greenroom.wire.dialects import PLATFORM, Dialect
from greenroom.wire.encoding import dumps
from greenroom.wire.models import RunCreate

LOG_MODES = (
    *("values", "updates", "messages", "tools", "lifecycle", "custom", "tasks", "checkpoints"),
)
"""The stream modes of a run for clients of event streaming, as LangGraph's server has them."""

_NOT_CONTEXT = frozenset(
    {"thread_id", "run_id", "checkpoint_id", "checkpoint_ns", "checkpoint_map"}
)
"""Keys of ``configurable`` that identify the run and are not part of the graph's context."""


def request_of(
    body: RunCreate,
    assistant: JsonObject,
    *,
    dialect: Dialect,
    run_id: str,
    thread_id: str,
    stateless: bool,
    scope: Scope,
    user: str | None,
    traceparent: str | None = None,
    cron_id: str | None = None,
    headers: Mapping[str, str] | None = None,
    sealing: Sealing = UNSEALED,
    logged: bool = False,
) -> RunRequest:
    """Makes the request for a run from a body.

    Args:
        body: the body; its ``webhook`` and ``checkpoint_id`` are checked, and it has passed
            `configs.refuse_misplaced`.
        assistant: the assistant's record, with its ``revision`` if the admission is to compare it.
        dialect: the defaults of fields that the body leaves out.
        stateless: the thread is the run's own.
        scope: as of `RunRequest`.
        user: as of `RunFacts`.
        traceparent: as of `RunFacts`.
        cron_id: the cron that the run is a firing of; the graph finds it in ``configurable``.
        headers: headers that go into ``configurable`` in place of the body's values.
        sealing: seals what the client gives the run.
        logged: the run is for clients of event streaming, whatever modes the body has.

    Raises:
        BadRequest: the body contradicts itself (platform API, section 5).
    """
    defaults = _unidentified(
        {**plain(assistant.get("metadata")), **_given(_base(assistant).get("metadata"))}
    )
    metadata = _metadata(assistant, body, stateless)
    temporary = stateless and body.on_completion != "keep"
    resumable = dialect.resumable if body.stream_resumable is None else body.stream_resumable
    resumable = resumable or logged
    kwargs = _kwargs(
        body,
        assistant,
        {"cron_id": cron_id} if cron_id is not None else {},
        identity.without(dict(headers or {})),
        run_id=run_id,
        thread_id=thread_id,
        temporary=temporary,
        resumable=resumable,
    )
    if logged:
        kwargs |= {"stream_mode": [*LOG_MODES], "subgraphs": True}
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
        webhook=body.webhook,
        traceparent=traceparent,
        assistant_version=assistant.get("version"),
        assistant_revision=assistant.get("revision"),
        user=user,
        logged=logged,
    )
    encoded, metadata_at = _encoded(sealed_run(sealing, kwargs), dumps({**defaults, **metadata}))
    return RunRequest(
        facts=facts,
        scope=scope,
        kwargs=encoded,
        metadata=dumps(metadata),
        defaults=dumps(defaults),
        metadata_at=metadata_at,
        thread_config=dumps({**_given(_of_thread(body)), "configurable": {}}),
        multitask_strategy=body.multitask_strategy or dialect.multitask_strategy,
        create_thread=stateless or (body.if_not_exists or dialect.if_not_exists) == "create",
        after_s=max(0.0, float(body.after_seconds or 0)),
    )


def firing_of(
    payload: JsonObject,
    assistant: JsonObject,
    *,
    cron_id: str,
    run_id: str,
    thread_id: str,
    stateless: bool,
    scope: Scope,
    user: str | None,
    more_metadata: JsonObject | None = None,
) -> RunRequest:
    """Makes the request for the run of a cron, by the Platform's defaults on both mounts.

    Args:
        payload: the cron's.
        more_metadata: metadata of this run only.
        assistant, cron_id, run_id, thread_id, stateless, scope, user: as in `request_of`.

    Raises:
        pydantic.ValidationError: the payload is no body of a run.
        BadRequest: as in `request_of`.
    """
    given = _given(payload)
    config = _given(given.get("config"))
    # The cron's id is there as well: `request_of` adds it, without a conflict with a context.
    own = {k: v for k, v in _given(config.get("configurable")).items() if k != "cron_id"}
    completion = "keep" if given.get("on_run_completed") == "keep" else "delete"
    body = RunCreate.model_validate(
        {
            **given,
            "config": {**config, "configurable": own},
            "metadata": {**_given(given.get("metadata")), **(more_metadata or {})},
            "on_completion": completion,
            # For the cron itself; a thread that is gone has taken its crons along.
            "if_not_exists": None,
        }
    )
    return request_of(
        body,
        assistant,
        dialect=PLATFORM,
        run_id=run_id,
        thread_id=thread_id,
        stateless=stateless,
        scope=scope,
        user=user,
        cron_id=cron_id,
    )


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
    later = dumps({name: kwargs[name] for name in names[names.index("config") + 1 :]})
    config = {**kwargs["config"], "metadata": orjson.Fragment(metadata)}
    # Once: the input comes before the config and may be large.
    encoded = dumps({**kwargs, "config": config})
    end = len(encoded) - len(later) - 1  # the brace of the config stands instead of that of `later`
    return encoded, (end - len(metadata), end)


def _kwargs(
    body: RunCreate,
    assistant: JsonObject,
    of_cron: JsonObject,
    of_headers: JsonObject,
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
    if not body.context:
        own |= of_cron
    # Key by key, and a null of the run's overrides as well.
    configurable = {**base.get("configurable", {}), **own}
    context = {**identity.without(plain(assistant.get("context"))), **_context(own)}
    identity_of = _identity(body, assistant, run_id, thread_id)
    configurable |= of_headers | identity_of | _traced(body) | of_cron
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


def _traced(body: RunCreate) -> JsonObject:
    """Returns what LangChain's tracer is told (`greenroom.graphs.langsmith_tracer`)."""
    given = _given(body.langsmith_tracer)
    names = {"project_name": identity.PROJECT, "example_id": identity.EXAMPLE}
    return {key: given[name] for name, key in names.items() if name in given}


def _identity(body: RunCreate, assistant: JsonObject, run_id: str, thread_id: str) -> JsonObject:
    return {
        "langgraph_auth_user": None,
        "langgraph_auth_user_id": "",
        "langgraph_auth_permissions": [],
        "langgraph_request_id": str(uuid7()),
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
