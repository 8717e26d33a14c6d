"""Names the environment variables of the LangGraph Platform that have no effect here.

Somebody who moves a deployment keeps its environment, and each of these would otherwise be passed
over in silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

_PLACEMENT = "of a placement in langgraph.json"
INSTEAD = {
    "BG_JOB_HEARTBEAT": "GREENROOM_REGISTRY_SILENCE_S bounds what a lost registry costs",
    "BG_JOB_INTERVAL": "runs start at once; nothing polls for them",
    "BG_JOB_ISOLATED_LOOPS": "every run has a process of its own, unless 'runs_per_actor'"
    f" {_PLACEMENT} lets some share one",
    "BG_JOB_MAX_RETRIES": f"use 'max_attempts' {_PLACEMENT}",
    "BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS": "use GREENROOM_DRAIN_S",
    "BG_JOB_TIMEOUT_SECS": f"use 'timeout_s' {_PLACEMENT}",
    "DATABASE_URI": "use GREENROOM_DATABASE_URL",
    "LANGGRAPH_AES_KEY": "use GREENROOM_ENCRYPTION_KEYS",
    "LANGGRAPH_AUTH": "use 'auth' of langgraph.json, or GREENROOM_AUTH",
    "LANGGRAPH_AUTH_TYPE": "use 'auth' of langgraph.json, or GREENROOM_AUTH",
    "LANGGRAPH_CHECKPOINTER": "use 'checkpointer' of langgraph.json",
    "LANGGRAPH_CLOUD_LICENSE_KEY": "no licence is needed",
    "LANGGRAPH_ENCRYPTION": "use 'encryption' of langgraph.json",
    "LANGGRAPH_HTTP": "use 'http' of langgraph.json",
    "LANGGRAPH_POSTGRES_POOL_MAX_SIZE": "pools have the size that their process needs",
    "LANGGRAPH_STORE": "use 'store' of langgraph.json",
    "LANGGRAPH_UI": "no UI components are served",
    "LANGGRAPH_WEBHOOKS": "use 'webhooks' of langgraph.json",
    "LANGSERVE_GRAPHS": "use 'graphs' of langgraph.json",
    "N_JOBS_PER_WORKER": f"use 'max_actors' and 'runs_per_actor' {_PLACEMENT}",
    "REDIS_URI": "there is no Redis",
    "RESUMABLE_STREAM_TTL_SECONDS": "use GREENROOM_RESUMABLE_TTL_S",
}
"""What takes the place of each variable."""
_FAMILIES = ("BG_JOB_", "N_JOBS_")


def without_effect(*environments: Mapping[str, str]) -> Iterator[str]:
    """Yields a sentence for each variable of the Platform that is set.

    Args:
        environments: the server's own, and that of `langgraph.json`.
    """
    for name in sorted({name for environment in environments for name in environment}):
        if name in INSTEAD:
            yield f"{name} is set and has no effect on the server: {INSTEAD[name]}."
        elif name.startswith(_FAMILIES):
            yield f"{name} is set and has no effect on the server: there is no such queue."
