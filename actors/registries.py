"""Finds a server's registries, makes missing ones, and relieves those of an older server."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

import ray
import ray.actor

from actors.calls.answers import CALL_S, NO_ANSWER, answer, is_repeatable, repeat
from actors.calls.directory import Handles
from actors.calls.names import is_registry, registry_name
from actors.common.placement import HEAD, HEAD_SHARE
from actors.common.setup import RegistrySetup
from actors.registry.actor import RegistryActor
from greenroom.core.errors import ConfigurationError, Unavailable

log = logging.getLogger("greenroom.registries")

_NOT_THERE = (*NO_ANSWER, Unavailable)


def make_registry(handles: Handles, setup: RegistrySetup) -> ray.actor.ActorHandle:
    """Returns the handle of a registry; makes the registry unless it exists. Blocks."""
    name = registry_name(setup.shard.number)
    handle: Any = (
        ray.remote(_registry_class())
        .options(
            name=name,
            namespace=handles.namespace,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            max_task_retries=-1,
            max_concurrency=100_000,
            num_cpus=0,
            resources={HEAD: HEAD_SHARE},
            enable_task_events=False,
        )
        .remote(setup)
    )
    handles.keep(name, handle)
    return handle


@functools.cache
def _registry_class() -> type:
    """Returns `actors.registry.actor.RegistryActor` with Ray's retries switched off for methods
    that are not repeatable. This concerns callers that use a handle instead of `Handles`."""
    for name, method in inspect.getmembers(RegistryActor, inspect.iscoroutinefunction):
        if not name.startswith("_") and not is_repeatable(method):
            ray.method(max_task_retries=0)(method)
    return RegistryActor


async def find_registries(
    handles: Handles,
    setup: RegistrySetup,
    make: Callable[[Handles, RegistrySetup], Any] = make_registry,
) -> dict[str, Any]:
    """Finds the registries; makes those that do not exist. Waits for them without a limit.

    Registries of an older start with other code (detached actors survive a redeploy), or with
    another number of registries, are relieved: their runs stop after their superstep, and the new
    registries continue them.

    Args:
        handles: the directory of actors.
        setup: the set-up of the first registry.
        make: makes a registry unless it exists. Blocks.

    Returns:
        the first registry's `hello`.

    Raises:
        ConfigurationError: the database is embedded, and the cluster has other nodes.
    """
    await asyncio.to_thread(refuse_embedded_beyond_one_node, handles, setup)
    while True:
        first = await _hello(handles, setup, make)
        found = [first]
        if first["version"] == setup.version:
            # All get the first one's generation: a later generation would supersede the others.
            same = dataclasses.replace(setup, generation=first["generation"])
            found += await asyncio.gather(
                *(_hello(handles, each, make) for each in same.shards()[1:])
            )
        if not any(_is_older(hello, setup) for hello in found):
            return first
        await _relieve(handles, setup)


async def _hello(
    handles: Handles, setup: RegistrySetup, make: Callable[[Handles, RegistrySetup], Any]
) -> dict[str, Any]:
    """Returns a registry's `hello` once it has recovered; makes the registry unless it exists."""
    name = registry_name(setup.shard.number)

    async def ask() -> dict[str, Any]:
        try:
            registry = await asyncio.to_thread(make, handles, setup)
            return await answer(registry.hello.remote(), name, within_s=CALL_S)
        except _NOT_THERE:
            # For some milliseconds after its death Ray still returns the dead registry.
            handles.forget(name)
            raise

    # Without a bound: a server without registries has nothing else to do.
    return await repeat(ask, on=_NOT_THERE, bound_s=None, pause_s=0.2)


def _is_older(hello: dict[str, Any], setup: RegistrySetup) -> bool:
    return hello["version"] != setup.version and hello["generation"] < setup.generation


async def _relieve(handles: Handles, setup: RegistrySetup) -> None:
    """Drains and kills all registries of earlier starts."""
    names = await asyncio.to_thread(handles.names)
    # The first one last: while it exists, another start finds it and repeats these steps.
    names = sorted(filter(is_registry, names), reverse=True)
    drained = await asyncio.gather(*(_drained(handles, name, setup) for name in names))
    for name, is_drained in zip(names, drained, strict=True):
        if is_drained:
            await asyncio.to_thread(handles.kill, name)


async def _drained(handles: Handles, name: str, setup: RegistrySetup) -> bool:
    try:
        registry = await handles.find(name)
        hello = await answer(registry.hello.remote(), name, within_s=CALL_S)
        if not _is_older(hello, setup):
            return False  # another gateway was faster
        log.info("relieving a registry that runs older code", extra={"pid": hello["pid"]})
        draining = registry.drain.remote(setup.drain_s, relieved=True)
        await answer(draining, name, within_s=setup.drain_s + CALL_S)
    except _NOT_THERE:
        handles.forget(name)
        return False
    return True


def refuse_embedded_beyond_one_node(handles: Handles, setup: RegistrySetup) -> None:
    """Refuses an embedded database on a cluster of several nodes: it answers its own node only.

    Raises:
        ConfigurationError: the set-up has an embedded database, and there are other nodes.
    """
    if setup.embedded is None:
        return
    nodes = len(handles.cluster_view().nodes)
    if nodes > 1:
        raise ConfigurationError(
            f"The embedded database serves one node, and this cluster has {nodes}: give every"
            " node the same PostgreSQL with GREENROOM_DATABASE_URL (or --database-url)."
        )
