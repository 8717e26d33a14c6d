"""Actors in memory: what `actors.calls.directory.Handles` gives, without Ray.

A call of an actor is a coroutine; a dead actor raises `ActorGone`, a scripted one what it is told.

The way there may misbehave as a network does, by a script (`Cluster.lose`, `repeat`, `delay`) or at
random (`Cluster.misbehave`), for calls in both directions: of the registry to its actors, and of
gateways and actors to a registry that is told by `Cluster.serve` (`FakeHandles.call`, or
`Cluster.ask` for one that asks again as gateways and actors do).
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from actors.calls.answers import CALL_S, ActorGone, repeat
from actors.common.actor_process import ActorProcess
from actors.common.placement import ClusterView, Node, PoolSpec
from actors.common.setup import InspectorSetup, RegistrySetup
from greenroom.core.errors import Unreachable
from greenroom.core.runs import RunOrder, Settled

BOUND_S = 30.0
PLACE = ActorProcess(pid=4711, host="h", node="n", table="t", since_s=1_000_000_000.0)


def setup_of(**changes: Any) -> RegistrySetup:
    """A registry's setup; what a test does not name does not matter to it."""
    given: dict[str, Any] = {
        "namespace": "n",
        "version": "v",
        "generation": 1,
        "dsn": "",
        "embedded": None,
        "config_path": Path("langgraph.json"),
        "drain_s": 1.0,
        "default_max_actors": 2,
        "max_starts": 2,
        "cancel_grace_s": 0.05,
        "registry_silence_s": 60.0,
        "log_max_bytes": 1000,
        "max_queued_runs": None,
        "resumable_ttl_s": 60.0,
        "event_log_ttl_s": 600.0,
        "event_log_max_bytes": 1_000_000,
    }
    return RegistrySetup(**(given | changes))


async def until(holds: Callable[[], object]) -> None:
    """Waits, bounded, until something holds; what it waits for happens on this loop."""
    async with asyncio.timeout(BOUND_S):
        while not holds():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.001)


class Method:
    """``handle.method.remote(...)``."""

    def __init__(self, call: Callable[..., Awaitable[Any]]) -> None:
        self._call = call

    def remote(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        return self._call(*args, **kwargs)


@dataclass
class Mishap:
    """What happens to one call.

    Attributes:
        kind: ``lost``: it is never executed; ``unanswered``: it is, and its answer is lost;
            ``twice``: it is executed twice, and the second answer arrives; ``late``: its answer
            waits for the gate.
        gate: of ``late``; None waits for some turns of the loop.
    """

    kind: Literal["lost", "unanswered", "twice", "late"]
    gate: asyncio.Event | None = None


class FakeActor:
    """A run actor or inspector that only remembers what it was told."""

    def __init__(self, name: str, cluster: Cluster, spec: PoolSpec) -> None:
        self.name = name
        self.cluster = cluster
        self.spec = spec
        self.orders: list[RunOrder] = []
        self.current: dict[str, int] = {}
        self.cancelled: list[tuple[str, int, bool]] = []
        self.heard: list[tuple[str, int]] = []
        self.settled: list[str] = []
        self.settled_by: list[str] = []
        self.pruned: list[str] = []
        self.beats = 0
        self.dead = asyncio.Event()

    def __getattr__(self, name: str) -> Method:
        async def execute(*args: Any) -> Any:
            await asyncio.sleep(0)
            if self.dead.is_set():
                raise ActorGone(self.name)
            script = self.cluster.scripts.get(name, [])
            if script:
                step = script.pop(0)
                answer = step(*args) if callable(step) else step
                if isinstance(answer, Awaitable):
                    answer = await answer
                if isinstance(answer, Exception):
                    raise answer
                if answer is not None:
                    return answer
            if self.dead.is_set():
                raise ActorGone(self.name)
            return await getattr(self, f"_{name}")(*args)

        return Method(lambda *args: self.cluster.deliver(name, lambda: execute(*args)))

    place = PLACE

    async def _prepare(self) -> ActorProcess:
        return self.place

    async def _adopt(self, epoch: int) -> tuple[PoolSpec, ActorProcess, list[tuple[str, int]]]:
        return self.spec, self.place, list(self.current.items())

    async def _drain(self) -> None:
        """A run that does not reach the end of its superstep in time."""

    async def _beat(self, epoch: int) -> None:
        self.beats += 1

    async def _alive(self) -> None:
        await self.dead.wait()
        raise ActorGone(self.name)

    async def _start_many(self, epoch: int, orders: list[RunOrder]) -> None:
        for order in orders:
            if self.current.get(order.run_id, 0) < order.attempt:
                self.orders.append(order)
                self.current[order.run_id] = order.attempt

    async def _cancel(self, run_id: str, attempt: int, keep_values: bool) -> None:
        self.cancelled.append((run_id, attempt, keep_values))

    async def _hear(self, runs: list[tuple[str, int]]) -> None:
        self.heard += runs

    async def _settle(self, graph_id: str, thread_id: str, held: tuple[int, int]) -> Settled:
        self.settled.append(thread_id)
        self.settled_by.append(graph_id)
        return Settled(interrupts=b"{}")

    async def _prune(self, thread_id: str) -> None:
        self.pruned.append(thread_id)

    async def _ask(self, question: Any) -> bytes:
        return b"{}"

    async def _leave(self) -> None:
        """Nothing is under way."""

    async def _retire(self) -> None:
        """Everything was read."""

    async def _update(self, update: Any, held: tuple[int, int]) -> tuple[bytes, bytes, bool]:
        return b"{}", b"{}", False


class Cluster:
    """The actors that are alive, and what their methods do next.

    Attributes:
        scripts: per method, what its next calls give: a value, an exception, a function of the
            arguments, or None for the usual answer.
        mishaps: per method, what happens to its next calls on their way.
        happened: the mishaps that have happened: method and kind.
    """

    def __init__(self) -> None:
        self.actors: dict[str, FakeActor] = {}
        self.ever: list[FakeActor] = []
        self.scripts: dict[str, list[Any]] = {}
        self.mishaps: dict[str, list[Mishap]] = defaultdict(list)
        self.happened: list[tuple[str, str]] = []
        self.registries: dict[str, Any] = {}
        self._luck: random.Random | None = None
        self._share = 0.0
        self._only: frozenset[str] | None = None
        self.killed: list[str] = []
        self.view = ClusterView(nodes=(Node(resources={"CPU": 64}),))

    # --- the way there -------------------------------------------------------------------------

    def lose(self, method: str, times: int = 1, *, executed: bool) -> None:
        """The next calls of a method are lost: before they are executed, or their answers."""
        self.mishaps[method] += [Mishap("unanswered" if executed else "lost")] * times

    def repeat(self, method: str, times: int = 1) -> None:
        """The next calls of a method are executed twice, one after the other."""
        self.mishaps[method] += [Mishap("twice")] * times

    def delay(self, method: str, times: int = 1) -> asyncio.Event:
        """The next calls of a method are answered when the event that this returns is set."""
        gate = asyncio.Event()
        self.mishaps[method] += [Mishap("late", gate)] * times
        return gate

    def misbehave(self, seed: int, share: float = 0.2, only: frozenset[str] | None = None) -> None:
        """From now on a share of the calls is lost, left unanswered, executed twice or late.

        Args:
            seed: the same calls in the same order meet the same mishaps.
            only: these methods; None for all but `prepare`, which is not repeatable, and `alive`,
                whose loss only makes the watch begin again.
        """
        self._luck, self._share, self._only = random.Random(seed), share, only

    def behave(self) -> None:
        """No mishaps any more, scripted or not."""
        self._luck = None
        self.mishaps.clear()

    def _mishap(self, method: str) -> Mishap | None:
        scripted = self.mishaps.get(method)
        if scripted:
            return scripted.pop(0)
        spared = method in ("prepare", "alive") if self._only is None else method not in self._only
        if self._luck is None or spared or self._luck.random() >= self._share:
            return None
        return Mishap(self._luck.choice(("lost", "unanswered", "twice", "late")))

    async def deliver(self, method: str, execute: Callable[[], Awaitable[Any]]) -> Any:
        """Executes a call as its mishap has it.

        Raises:
            Unreachable: the call, or its answer, was lost.
        """
        mishap = self._mishap(method)
        if mishap is None:
            return await execute()
        self.happened.append((method, mishap.kind))
        if mishap.kind == "lost":
            await asyncio.sleep(0)
            raise Unreachable(f"'{method}' was lost before it was executed (scripted).")
        answer = await execute()
        if mishap.kind == "unanswered":
            raise Unreachable(f"The answer of '{method}' was lost (scripted).")
        if mishap.kind == "twice":
            return await execute()
        if mishap.gate is not None:
            await mishap.gate.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        return answer

    def serve(self, name: str, registry: Any) -> None:
        """A registry can be called under its name from now on; None: it is dead."""
        if registry is None:
            self.registries.pop(name, None)
        else:
            self.registries[name] = registry

    async def call(self, name: str, method: str, *args: Any) -> Any:
        """One call of a registry or an actor, as `Handles.call` makes it.

        Raises:
            ActorGone: there is none of this name.
            Unreachable: a mishap.
        """
        if name in self.registries:
            registry = self.registries[name]
            return await self.deliver(method, lambda: getattr(registry, method)(*args))
        if name not in self.actors:
            raise ActorGone(name)
        return await getattr(self.actors[name], method).remote(*args)

    async def ask(self, name: str, method: str, *args: Any) -> Any:
        """A call that is made again until it is answered, as gateways and actors do."""
        return await repeat(lambda: self.call(name, method, *args), bound_s=BOUND_S, pause_s=0.001)

    # --- actors --------------------------------------------------------------------------------

    def add(self, name: str, spec: PoolSpec) -> FakeActor:
        actor = self.actors[name] = FakeActor(name, self, spec)
        self.ever.append(actor)
        return actor

    def die(self, name: str) -> None:
        self.actors.pop(name).dead.set()

    def workers(self) -> list[FakeActor]:
        return [actor for name, actor in self.actors.items() if name.startswith("run-")]

    def inspectors(self, prefix: str = "inspector-reads") -> list[FakeActor]:
        return [actor for name, actor in self.actors.items() if name.startswith(prefix)]

    def settlers(self) -> list[FakeActor]:
        return self.inspectors("inspector-ends")

    def executing(self, run_id: str) -> FakeActor | None:
        """The living actor that was ordered to execute a run."""
        return next((a for a in self.workers() if run_id in a.current), None)


class FakeHandles:
    """`Handles` and `Spawn` over a `Cluster`."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.loop = asyncio.get_running_loop()

    async def find(self, name: str) -> FakeActor:
        if name not in self.cluster.actors:
            raise ActorGone(name)
        return self.cluster.actors[name]

    async def call(
        self, name: str, method: str, *args: Any, within_s: float | None = CALL_S
    ) -> Any:
        deadline = asyncio.timeout(within_s)
        try:
            async with deadline:
                return await self.cluster.call(name, method, *args)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise Unreachable(f"'{method}' did not answer in time.") from None

    def connect(self, name: str) -> None:
        pass

    def forget(self, name: str) -> None:
        pass

    def names(self) -> list[str]:
        return [*self.cluster.actors, "registry", *self.cluster.registries]

    def cluster_view(self) -> ClusterView:
        return self.cluster.view

    def kill(self, name: str) -> None:
        """Called from a thread, as with Ray."""
        self.cluster.killed.append(name)
        actor = self.cluster.actors.pop(name, None)
        if actor is not None:
            self.loop.call_soon_threadsafe(actor.dead.set)

    def make_inspector(self, name: str, setup: InspectorSetup) -> None:
        self.cluster.add(name, setup.spec)

    def make_run_actor(self, name: str, setup: Any, spec: PoolSpec) -> None:
        self.cluster.add(name, spec)
