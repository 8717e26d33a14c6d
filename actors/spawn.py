"""Makes run actors and inspectors: what Ray must know of their classes, in one place.

Only the keeper of a registry makes them. Nobody below `actors.registry` imports this module, since
it knows the classes of the actors that it makes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import ray

from actors.calls import ray_internals
from actors.calls.directory import Handles
from actors.common.placement import PoolSpec
from actors.common.setup import InspectorSetup
from greenroom.core.units import MIB

_RUN_GROUPS = {
    "execute": ("prepare", "start_many", "drain"),
    "control": ("cancel", "beat", "adopt"),
    "read": ("read", "outcome", "alive", "address", "retire"),
}
"""Concurrency groups of a run actor, each with a thread and loop of its own: a node that blocks
`execute` neither delays a cancel nor a reader, and thousands of pending reads do not delay a
cancel."""

_INSPECTOR_GROUPS = {
    "execute": ("prepare", "ask", "update", "settle", "prune"),
    "control": ("beat", "adopt", "alive", "leave"),
}
"""Those of an inspector. Its graphs' code has threads of its own, apart from when it is loaded."""

_GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "RunActor": _RUN_GROUPS,
    "Inspector": _INSPECTOR_GROUPS,
}

_GROUP_LIMITS = {"execute": 100_000, "control": 1_000, "read": 100_000}


class Spawn:
    """Makes the actors of one namespace that have graphs.

    Args:
        handles: gets to know what is made here.
    """

    def __init__(self, handles: Handles) -> None:
        self._handles = handles

    def make_run_actor(self, name: str, setup: Any, spec: PoolSpec) -> None:
        """Starts a run actor's process; `prepare` says when it has loaded its graphs. Blocks."""
        handle: Any = (
            _run_actor_class()
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
        """Starts an inspector's process; `prepare` says when it has loaded its graphs. Blocks."""
        handle: Any = (
            _inspector_class()
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
def _run_actor_class() -> Any:
    """`actors.run.actor.RunActor` as a Ray actor class."""

    def make(setup: Any) -> Any:
        from actors.run.actor import RunActor

        return RunActor(setup)

    return _shell("RunActor", make)


@functools.cache
def _inspector_class() -> Any:
    """`actors.inspector.actor.Inspector` as a Ray actor class."""

    def make(setup: Any) -> Any:
        from actors.inspector.actor import Inspector

        return Inspector(setup)

    return _shell("Inspector", make)


def _shell(title: str, make: Callable[[Any], Any]) -> Any:
    """A Ray actor class whose methods are spread over concurrency groups.

    Whoever has a handle loads the class: gateways and the registry too, and they must not load
    LangGraph with it (half a second and 50 MiB). So the class that Ray knows is a shell, and what
    is in it comes with its process.

    To be made once in a process: Ray disassembles, pickles and exports each class that it meets.
    """

    def fill(self: Any, setup: Any) -> None:
        ray_internals.leave_out_command_line_of_httpx()
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
