"""Handles over a Ray that is a fake, with real connections; and what a process loads that only has
a handle."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    GetTimeoutError,
    NodeDiedError,
    OwnerDiedError,
    RayActorError,
    RayError,
    RaySystemError,
    RayTaskError,
    RpcError,
)

from actors.calls import directory as handles_module
from actors.calls.answers import ActorGone, NodeGone, answer, is_repeatable, repeat
from actors.calls.directory import Handles
from actors.calls.once import INSPECTOR_ONCE, REGISTRY_ONCE, RUN_ONCE, may_be_repeated
from actors.calls.rpc import RpcServer
from actors.inspector.actor import Inspector
from actors.registry.actor import RegistryActor
from actors.run.actor import RunActor
from actors.spawn import INSPECTOR_GROUPS, RUN_GROUPS
from greenroom.core.errors import Conflict, Unavailable, Uncertain, Unreachable
from tests.actors.doubles import BOUND_S, until

LOADED = """
import sys
from ray import cloudpickle
from actors import registries, spawn

for made in (spawn.run_actor_class, spawn.inspector_class):
    loaded = cloudpickle.loads(cloudpickle.dumps(made().__ray_metadata__.modified_class))
    assert callable(loaded.alive)
print({name.partition(".")[0] for name in sys.modules} & {"langgraph", "langchain_core"})
"""


def test_who_has_a_handle_of_an_actor_with_graphs_does_not_load_langgraph() -> None:
    """The registry would be a second slower at every restart, a gateway at its first run."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("actor", "groups"), [(RunActor, RUN_GROUPS), (Inspector, INSPECTOR_GROUPS)]
)
def test_every_method_of_an_actor_has_its_group(actor: type, groups: dict[str, list[str]]) -> None:
    methods = {
        name
        for name, method in inspect.getmembers(actor, inspect.iscoroutinefunction)
        if not name.startswith("_")
    }
    assert {name for names in groups.values() for name in names} == methods


@pytest.mark.parametrize(
    ("name", "actor", "once"),
    [
        ("registry-1", RegistryActor, REGISTRY_ONCE),
        ("run-1", RunActor, RUN_ONCE),
        ("inspector-reads-1", Inspector, INSPECTOR_ONCE),
    ],
)
def test_what_is_not_repeated_is_what_is_not_declared_repeatable(
    name: str, actor: type, once: frozenset[str]
) -> None:
    methods = {
        method: is_repeatable(declared)
        for method, declared in inspect.getmembers(actor, inspect.iscoroutinefunction)
        if not method.startswith("_")
    }
    assert {method for method, repeatable in methods.items() if not repeatable} == once
    assert {method: may_be_repeated(name, method) for method in methods} == methods


# --- a Ray of one process -------------------------------------------------------------------------


class Remote:
    """``handle.method``: options, then a call."""

    def __init__(self, call: Callable[..., Awaitable[Any]], asked: list[Any]) -> None:
        self._call = call
        self._asked = asked

    def options(self, **options: Any) -> Remote:
        self._asked.append(options)
        return self

    def remote(self, *args: Any) -> Awaitable[Any]:
        return self._call(*args)


class Actor:
    """An actor, its handle, and what its methods do next.

    Attributes:
        failures: per method, what Ray says instead of an answer.
        over_ray, over_socket: the methods that were called.
        rpc: where it listens; None where Ray encrypts.
    """

    def __init__(self, name: str, rpc: bool = True) -> None:
        self.name = name
        self.failures: dict[str, list[Exception]] = {}
        self.over_ray: list[str] = []
        self.over_socket: list[str] = []
        self.options: list[Any] = []
        self.dead = asyncio.Event()
        self.gate: asyncio.Event | None = None
        self.rpc = RpcServer({"read": self._read}) if rpc else None

    async def _read(self, value: Any) -> Any:
        self.over_socket.append("read")
        if self.gate is not None:
            await self.gate.wait()
        return value

    async def _address(self) -> Any:
        return await self.rpc.address("127.0.0.1") if self.rpc is not None else None

    async def _alive(self) -> None:
        await self.dead.wait()
        raise ActorDiedError

    def __getattr__(self, method: str) -> Remote:
        async def call(*args: Any) -> Any:
            self.over_ray.append(method)
            await asyncio.sleep(0)
            if self.failures.get(method):
                raise self.failures[method].pop(0)
            own = {"address": self._address, "alive": self._alive}.get(method)
            return await own() if own is not None else (method, *args)

        return Remote(call, self.options)


@pytest.fixture
def actors(monkeypatch: pytest.MonkeyPatch) -> dict[str, Actor]:
    """Who is alive, by name."""
    living: dict[str, Actor] = {}

    def get_actor(name: str, namespace: str) -> Actor:
        if name not in living:
            raise ValueError(name)
        return living[name]

    monkeypatch.setattr(ray, "get_actor", get_actor)
    monkeypatch.setattr(handles_module, "RECONNECT_S", 0.01)
    return living


@pytest.fixture
async def handles(actors: dict[str, Actor]) -> AsyncIterator[Handles]:
    handles = Handles("n")
    yield handles
    connecting = [*handles.connecting.values()]
    for name in [*handles.known, *handles.connecting, *handles.connections]:
        handles.forget(name)
    await asyncio.gather(*connecting, return_exceptions=True)
    for actor in actors.values():
        if actor.rpc is not None:
            actor.rpc.close()
    await asyncio.sleep(0.01)  # the transports close in a later turn


async def connected(handles: Handles, name: str) -> None:
    handles.connect(name)
    await until(lambda: name in handles.connections)


# --- the way of a call ----------------------------------------------------------------------------


async def test_a_call_goes_through_ray_until_there_is_a_connection(
    handles: Handles, actors: dict[str, Actor]
) -> None:
    actor = actors["run-1"] = Actor("run-1")
    assert await handles.call("run-1", "read", 1) == ("read", 1)
    await until(lambda: "run-1" in handles.connections)
    assert await handles.call("run-1", "read", 2) == 2
    assert actor.over_ray.count("read") == len(actor.over_socket) == 1


async def test_what_is_not_called_often_goes_through_ray_beside_the_connection(
    handles: Handles, actors: dict[str, Actor]
) -> None:
    actors["run-1"] = Actor("run-1")
    await connected(handles, "run-1")
    assert await handles.call("run-1", "cancel", "r") == ("cancel", "r")


async def test_ray_repeats_nothing_by_itself(handles: Handles, actors: dict[str, Actor]) -> None:
    actor = actors["registry"] = Actor("registry")
    await handles.call("registry", "update_state", "t")
    assert all(each == {"max_task_retries": 0} for each in actor.options)


async def test_a_repeatable_call_that_its_connection_lost_is_made_through_ray(
    handles: Handles, actors: dict[str, Actor]
) -> None:
    actor = actors["run-1"] = Actor("run-1")
    await connected(handles, "run-1")
    actor.gate = asyncio.Event()
    reading = asyncio.create_task(handles.call("run-1", "read", 1))
    await until(lambda: actor.over_socket)
    handles.connections["run-1"].close()
    assert await reading == ("read", 1)
    actor.gate.set()


async def test_another_call_that_its_connection_lost_is_not_made_again(
    handles: Handles, actors: dict[str, Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handles_module, "may_be_repeated", lambda *_: False)
    actor = actors["run-1"] = Actor("run-1")
    await connected(handles, "run-1")
    actor.gate = asyncio.Event()
    reading = asyncio.create_task(handles.call("run-1", "read", 1))
    await until(lambda: actor.over_socket)
    handles.connections["run-1"].close()
    with pytest.raises(Uncertain, match="does not know whether"):
        await reading
    assert "read" not in actor.over_ray
    actor.gate.set()


async def test_what_was_not_executed_is_made_again_whatever_it_is(
    handles: Handles, actors: dict[str, Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handles_module, "may_be_repeated", lambda *_: False)
    with pytest.raises(ActorGone):  # there is none
        await handles.call("run-1", "prepare")
    await until(lambda: not handles.connecting)
    actors["run-1"] = Actor("run-1")
    await connected(handles, "run-1")
    handles.connections["run-1"]._protocol.max_bytes = 1000
    assert await handles.call("run-1", "read", b"x" * 2000) == ("read", b"x" * 2000)


async def test_an_answer_that_does_not_come_is_bounded(
    handles: Handles, actors: dict[str, Actor]
) -> None:
    actor = actors["run-1"] = Actor("run-1")
    await connected(handles, "run-1")
    actor.gate = asyncio.Event()
    with pytest.raises(Unreachable, match="did not answer 'read' within"):
        await handles.call("run-1", "read", 1, within_s=0.01)
    assert "run-1" in handles.connections  # the others' calls are under way on it
    actor.gate.set()


# --- what Ray says --------------------------------------------------------------------------------

LOST = ("00" * 28, b"", "")


@pytest.mark.parametrize(
    ("said", "means"),
    [
        (ActorDiedError(), ActorGone),
        (RayActorError(error_msg="The actor died because its node has died."), NodeGone),
        (NodeDiedError("its node"), NodeGone),
        (ActorUnavailableError("no route", None), Unreachable),
        (OwnerDiedError(*LOST), Unreachable),
        (RpcError("broken pipe"), Unreachable),
        (RaySystemError("raylet"), Unreachable),
        (GetTimeoutError("slow"), Unreachable),
    ],
)
async def test_every_error_of_ray_is_a_death_or_not_reached(
    said: RayError, means: type[Exception]
) -> None:
    """B19: the others passed as they were, and ended what waited for a death."""

    async def fail() -> None:
        raise said

    with pytest.raises(means) as raised:
        await answer(fail(), "run-1")
    assert type(raised.value) is means
    assert not isinstance(raised.value, Unavailable)


@pytest.mark.parametrize(
    ("raised", "seen"),
    [(Conflict("busy"), Conflict), (ActorGone("x"), Unavailable), (Unreachable("x"), Unavailable)],
)
async def test_what_the_actor_raised_is_its_answer(
    raised: Exception, seen: type[Exception]
) -> None:
    async def fail() -> None:
        raise RayTaskError("f", "traceback", raised)

    with pytest.raises(seen) as error:
        await answer(fail(), "run-1")
    assert type(error.value) is seen


async def test_ray_that_cannot_look_up_a_name_says_nothing_about_the_actor(
    handles: Handles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str, namespace: str) -> None:
        raise RpcError("no GCS")

    monkeypatch.setattr(ray, "get_actor", fail)
    with pytest.raises(Unreachable):
        await handles.find("run-1")


async def test_a_dead_actor_is_forgotten_whole(handles: Handles, actors: dict[str, Actor]) -> None:
    actor = actors["registry"] = Actor("registry", rpc=False)
    assert await handles.call("registry", "hello") == ("hello",)
    actor.failures["hello"] = [ActorDiedError()]
    with pytest.raises(ActorGone):
        await handles.call("registry", "hello")
    # The next one of its name is another actor.
    actors["registry"] = Actor("registry", rpc=False)
    assert await handles.call("registry", "hello") == ("hello",)
    assert actors["registry"].over_ray.count("hello") == 1


# --- connections ----------------------------------------------------------------------------------


async def test_a_lost_connection_is_opened_again(
    handles: Handles, actors: dict[str, Actor]
) -> None:
    actors["run-1"] = Actor("run-1")
    await connected(handles, "run-1")
    first = handles.connections["run-1"]
    first.close()
    await until(lambda: handles.connections.get("run-1") is not first)
    while "run-1" not in handles.connections:
        await handles.call("run-1", "read", 1)


async def test_a_death_closes_the_connection_and_leaves_nothing(
    handles: Handles, actors: dict[str, Actor]
) -> None:
    actor = actors["run-1"] = Actor("run-1")
    await connected(handles, "run-1")
    actor.dead.set()
    await until(lambda: not handles.connecting)
    assert not handles.connections
    assert not handles.known


@pytest.mark.parametrize(
    "failure", [OwnerDiedError(*LOST), RuntimeError("an actor of older code"), OSError("refused")]
)
async def test_a_failed_connection_waits_and_is_tried_again(
    handles: Handles, actors: dict[str, Actor], failure: Exception
) -> None:
    """B19: what was neither expected ended the task at once, unheard, and with no pause."""
    actor = actors["run-1"] = Actor("run-1")
    actor.failures["address"] = [failure]
    handles.connect("run-1")
    await until(lambda: not handles.connecting)
    await connected(handles, "run-1")
    assert actor.over_ray.count("address") == 2


async def test_forget_ends_all_that_belongs_to_a_name(
    handles: Handles, actors: dict[str, Actor]
) -> None:
    """B20a: where an actor has no address, a task stayed for ever for each that ever was."""
    for name, rpc in (("run-1", True), ("run-2", False)):
        actor = actors[name] = Actor(name, rpc)
        handles.connect(name)
        await until(lambda: "address" in actor.over_ray)  # noqa: B023 - awaited in its turn
    await until(lambda: "run-1" in handles.connections)
    tasks = [*handles.connecting.values()]
    for name in ("run-1", "run-2"):
        await asyncio.to_thread(handles.forget, name)
    async with asyncio.timeout(BOUND_S):
        await asyncio.gather(*tasks, return_exceptions=True)
    assert not handles.connecting
    assert not handles.connections
    assert not handles.known


async def test_where_ray_encrypts_no_connection_is_tried(
    handles: Handles, actors: dict[str, Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """B20a."""
    monkeypatch.setenv("RAY_USE_TLS", "1")
    actors["run-1"] = Actor("run-1", rpc=False)
    assert await handles.call("run-1", "read", 1) == ("read", 1)
    assert not handles.connecting


async def test_an_actor_without_an_address_is_not_asked_for_it_at_every_call(
    handles: Handles, actors: dict[str, Actor]
) -> None:
    actor = actors["run-1"] = Actor("run-1", rpc=False)
    for _ in range(5):
        assert await handles.call("run-1", "read", 1) == ("read", 1)
    await until(lambda: "address" in actor.over_ray)
    assert actor.over_ray.count("address") == 1


# --- asking again ---------------------------------------------------------------------------------


async def test_repeat_asks_until_there_is_an_answer() -> None:
    failures: list[Exception] = [Unreachable("a"), ActorGone("b"), Unreachable("c")]

    async def ask() -> int:
        if failures:
            raise failures.pop(0)
        return 1

    assert await repeat(ask, bound_s=BOUND_S, pause_s=0.001) == 1


async def test_repeat_gives_up_after_its_bound_with_the_last_failure() -> None:
    async def ask() -> int:
        raise Unreachable("no route")

    async with asyncio.timeout(BOUND_S):
        with pytest.raises(Unreachable):
            await repeat(ask, bound_s=0.02, pause_s=0.001)


@pytest.mark.parametrize("refusal", [Unavailable("no"), Uncertain("?"), Conflict("busy")])
async def test_repeat_passes_an_answer_on_at_once(refusal: Exception) -> None:
    asked = 0

    async def ask() -> int:
        nonlocal asked
        asked += 1
        raise refusal

    with pytest.raises(type(refusal)):
        await repeat(ask, bound_s=BOUND_S)
    assert asked == 1
