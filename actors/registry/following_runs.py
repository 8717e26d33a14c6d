"""What an input that a run has not taken becomes: the request for the next run of the thread."""

from __future__ import annotations

from typing import Any

from greenroom.core.inputs import next_run_id
from greenroom.core.runs import RunFacts, RunRequest
from greenroom.core.scopes import SERVER
from greenroom.persistence.run_inputs import Addressed

_OF_ORIGIN = ("a2a", "cron_due_at", "cron_missed")
"""Keys of metadata that say what a run was made for; the next run is made for what was said."""
_OF_CHECKPOINT = ("checkpoint_id", "checkpoint_ns", "checkpoint_map")


def request_after(run: Addressed, input_id: str, content: bytes, as_node: str | None) -> RunRequest:
    """Makes the request: the assistant, the config, the user and the caller are those of the run.

    Args:
        content: as of `NewInput`; sealed values stay sealed.
        as_node: the next run takes the input itself, in the name of this node; it has no other.
    """
    import orjson

    kwargs: dict[str, Any] = orjson.loads(run.kwargs)
    said: dict[str, Any] = orjson.loads(content)
    run_id = next_run_id(input_id, run.facts.thread_id)
    config: dict[str, Any] = kwargs.get("config") or {}
    configurable = {
        key: value
        for key, value in (config.get("configurable") or {}).items()
        if key not in _OF_CHECKPOINT
    }
    metadata: dict[str, Any] = orjson.loads(run.metadata)
    metadata = {key: value for key, value in metadata.items() if key not in _OF_ORIGIN}
    if "metadata" in config:
        config = {**config, "metadata": metadata}
    kwargs |= {
        "input": said.get("input") if as_node is None else None,
        "command": said.get("command") if as_node is None else None,
        "config": {**config, "configurable": {**configurable, "run_id": run_id}},
    }
    kwargs.pop("strict_resume", None)
    facts = run.facts
    return RunRequest(
        facts=RunFacts(
            run_id=run_id,
            thread_id=facts.thread_id,
            assistant_id=facts.assistant_id,
            graph_id=facts.graph_id,
            resumable=facts.resumable,
            resumes=kwargs["input"] is None,
            webhook=facts.webhook,
            assistant_version=facts.assistant_version,
            user=facts.user,
        ),
        scope=SERVER,
        kwargs=orjson.dumps(kwargs),
        metadata=orjson.dumps(metadata),
        multitask_strategy="enqueue",
        create_thread=False,
        caller=run.caller,
    )
