"""The names of actors. A name travels between processes, never a handle."""

from __future__ import annotations

import uuid

REGISTRY = "registry"
"""The one registry, or the first of several."""
INSPECTOR = "inspector"
RUN_PREFIX = "run-"


def registry_name(shard: int) -> str:
    return f"{REGISTRY}-{shard}" if shard else REGISTRY


def is_registry(name: str) -> bool:
    return name == REGISTRY or name.startswith(f"{REGISTRY}-")


def is_inspector(name: str) -> bool:
    return name.startswith(INSPECTOR)


def new_run_actor_name(shard: int = 0) -> str:
    name = RUN_PREFIX + uuid.uuid4().hex[:12]
    return f"{name}-{shard}" if shard else name


def is_run_actor(name: str) -> bool:
    return name.startswith(RUN_PREFIX)


def shard_of(run_actor: str) -> int:
    """Returns the number of the registry that made a run actor."""
    _, _, shard = run_actor.removeprefix(RUN_PREFIX).partition("-")
    return int(shard or 0)
