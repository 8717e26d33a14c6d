"""Makes run actors and inspectors, and defines their concurrency groups for Ray.

Only registries make these actors. No module below `actors.registry` imports this one, because it
imports the actors' classes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import ray

from actors.calls.directory import Handles
from actors.common.placement import PoolSpec
from actors.common.setup import InspectorSetup
from actors.forking.threads import follow_environment
from greenroom.core.units import MIB
from greenroom.late_imports import import_less
from greenroom.machine import give_way

RUN_GROUPS = {
    "execute": ("prepare", "start_many", "drain"),
    "control": ("cancel", "hear", "beat", "adopt", "look"),
    "read": ("read", "outcome", "alive", "address", "retire", "nodes", "notes"),
}
"""The concurrency groups of a run actor, each with its own thread and loop: a node that blocks
`execute` delays neither cancels nor readers, and thousands of pending reads do not delay a
cancel."""

INSPECTOR_GROUPS = {
    "execute": (
        "prepare",
        "ask",
        "update",
        "settle",
        "prune",
        "embed_item",
        "embed_query",
        "open_stored",
    ),
    "control": ("beat", "adopt", "alive", "leave"),
}
"""The concurrency groups of an inspector. Graph code runs in lanes, except while it is imported."""

_GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "RunActor": RUN_GROUPS,
    "Inspector": INSPECTOR_GROUPS,
}

_GROUP_LIMITS = {"execute": 100_000, "control": 1_000, "read": 100_000}


class Spawn:
    """Makes the actors of one namespace that load graphs.

    Args:
        handles: the directory; it caches the handles of the new actors.
    """

    def __init__(self, handles: Handles) -> None:
        self._handles = handles

    def make_run_actor(self, name: str, setup: Any, spec: PoolSpec) -> None:
        """Starts a run actor; its `prepare` returns when it has loaded its graphs. Blocks.

        Args:
            name: the actor's name.
            setup: a `RunActorSetup`.
            spec: the resources that Ray reserves.
        """
        handle: Any = (
            run_actor_class()
            .options(
                name=name,
                namespace=self._handles.namespace,
                lifetime="detached",
                max_restarts=0,
                num_cpus=spec.num_cpus,
                num_gpus=spec.num_gpus,
                resources=dict(spec.resources),
                memory=spec.memory_mib * MIB or None,
                accelerator_type=spec.accelerator_type or None,
                label_selector=dict(spec.labels) or None,
                enable_task_events=False,
            )
            .remote(setup)
        )
        self._handles.keep(name, handle)

    def make_inspector(self, name: str, setup: InspectorSetup) -> None:
        """Starts an inspector; its `prepare` returns when it has loaded its graphs. Blocks."""
        handle: Any = (
            inspector_class()
            .options(
                name=name,
                namespace=self._handles.namespace,
                lifetime="detached",
                max_restarts=0,
                num_cpus=0,
                resources=dict(setup.spec.resources),
                enable_task_events=False,
            )
            .remote(setup)
        )
        self._handles.keep(name, handle)


@functools.cache
def run_actor_class() -> Any:
    """`actors.run.actor.RunActor` as a Ray actor class."""

    def make(setup: Any) -> Any:
        from actors.run.actor import RunActor

        return RunActor(setup)

    return _shell("RunActor", make)


@functools.cache
def inspector_class() -> Any:
    """`actors.inspector.actor.Inspector` as a Ray actor class."""

    def make(setup: Any) -> Any:
        from actors.inspector.actor import Inspector

        return Inspector(setup)

    return _shell("Inspector", make)


def _shell(title: str, make: Callable[[Any], Any]) -> Any:
    """Makes a Ray actor class whose methods are assigned to concurrency groups.

    Every process with a handle loads the actor's class: gateways and the registry too, and these
    must not load LangGraph (0.5 s and 50 MiB). So Ray gets a shell class, and only the actor's own
    process imports the real class.

    Call it once per process and class: Ray disassembles, pickles and exports each new class.
    """

    def fill(self: Any, setup: Any) -> None:
        give_way()
        import_less()
        follow_environment()
        self.inside = make(setup)

    limits = {group: _GROUP_LIMITS[group] for group in _GROUPS[title]}
    shell = type(title, (), {**_methods(title), "__init__": fill, "__module__": __name__})
    return ray.remote(concurrency_groups=limits)(shell)  # pyright: ignore


@functools.cache
def _methods(title: str) -> dict[str, Any]:
    return {
        name: ray.method(concurrency_group=group)(_forwarding(name))
        for group, names in _GROUPS[title].items()
        for name in names
    }


def _forwarding(name: str) -> Any:
    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await getattr(self.inside, name)(*args, **kwargs)

    method.__name__ = name
    return method
