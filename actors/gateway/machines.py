"""The machines of a server's processes: memory, CPU and stacks of processes that need not answer.

A gateway looks at processes of its own machine itself. At those of another one a *lookout* looks, a
small actor on that Ray node, which is made when it is first needed and ends with its gateway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.calls.answers import answer
from actors.common.actor_process import ActorProcess
from actors.common.neighbours import Neighbours, Sample, parsed, stacks_by_signal
from greenroom.core.errors import GreenroomError
from greenroom.machine import process_table

SAMPLE_S = 0.5
"""How long a sample of another machine may take; the first one makes its lookout, and is late."""
STACKS_S = 15.0


class Lookout:
    """Looks at the processes of its machine."""

    def __init__(self) -> None:
        self._neighbours = Neighbours()

    def sample(self, pids: list[int]) -> dict[int, Sample]:
        """`Neighbours.sample`."""
        return self._neighbours.sample(pids)

    def stacks(self, pid: int, descriptor: int) -> list[dict[str, Any]]:
        """Returns the threads of a process; empty if it writes nothing."""
        return parsed(stacks_by_signal(pid, descriptor))


class Machines:
    """Looks at processes, wherever they are.

    Args:
        table: the table of processes of this machine (`machine.process_table`).
    """

    def __init__(self, *, table: str | None = None) -> None:
        self._here = Lookout()
        self._table = table or process_table()
        self._elsewhere: dict[str, Any] = {}
        self._looking = asyncio.Lock()

    async def sample(self, processes: Mapping[str, ActorProcess]) -> dict[str, Sample]:
        """Returns what processes use, by the names of their actors; what is not known in time is
        left out."""
        nodes: dict[str, dict[int, str]] = {}
        for name, place in processes.items():
            node = "" if place.table == self._table else place.node
            nodes.setdefault(node, {})[place.pid] = name
        found: dict[str, Sample] = {}
        sampled = await asyncio.gather(*(self._sample(node, pids) for node, pids in nodes.items()))
        for names, samples in zip(nodes.values(), sampled, strict=True):
            found |= {names[pid]: sample for pid, sample in samples.items()}
        return found

    async def _sample(self, node: str, pids: Iterable[int]) -> dict[int, Sample]:
        if not node:
            async with self._looking:
                return await asyncio.to_thread(self._here.sample, [*pids])
        try:
            asked = self._lookout(node).sample.remote([*pids])
            return await answer(asked, f"lookout of {node}", within_s=SAMPLE_S)
        except GreenroomError:
            return {}

    async def stacks(self, place: ActorProcess) -> list[dict[str, Any]]:
        """Returns the threads of a process, written by a signal.

        Raises:
            OSError: there is no such process.
            GreenroomError: its machine does not answer.
        """
        if place.table == self._table:
            return await asyncio.to_thread(self._here.stacks, place.pid, place.dumps)
        asked = self._lookout(place.node).stacks.remote(place.pid, place.dumps)
        return await answer(asked, f"lookout of {place.node}", within_s=STACKS_S)

    def _lookout(self, node: str) -> Any:
        if node not in self._elsewhere:
            there = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
            made: Any = ray.remote(Lookout)  # pyright: ignore
            self._elsewhere[node] = made.options(
                num_cpus=0, max_restarts=-1, scheduling_strategy=there, enable_task_events=False
            ).remote()
        return self._elsewhere[node]
