"""Loads graphs that were shipped by value. They come from the database on first use; every attempt
of a run gets the version of its first attempt."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any

from langchain_core.runnables import RunnableConfig

from greenroom.core.errors import ConfigurationError, NotFound
from greenroom.graphs.configuration import GraphSpec
from greenroom.graphs.factories import Factory
from greenroom.graphs.loading import Graph, LoadedGraph
from greenroom.graphs.shipping import PYTHON, unpack
from greenroom.persistence import shipped
from greenroom.persistence.database import Pool

TARGET = "shipped:graph"
VERSIONS_KEPT = 8


class ShippedGraphs:
    """The graphs that were shipped to this server.

    Args:
        pool: the server's database.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._versions: OrderedDict[int, Graph] = OrderedDict()
        self._loading = asyncio.Lock()

    async def preload(self, graph_id: str) -> LoadedGraph:
        """Loads the newest version in advance, so that no run waits for it.

        Raises:
            ConfigurationError: the graph cannot be loaded; the message says why.
        """
        number = await shipped.newest(self._pool, graph_id)
        if number is not None:
            await self._version(graph_id, number)
        return self.graph(graph_id)

    def graph(self, graph_id: str) -> LoadedGraph:
        """Returns a graph by its name. Opening it loads the version of the run (of a first attempt,
        the newest one); without a run, the newest version."""

        async def make(config: RunnableConfig) -> Graph:
            run_id = config.get("configurable", {}).get("run_id")
            number = None
            if run_id is not None:
                number = await shipped.pin(self._pool, graph_id, run_id)
            if number is None:
                number = await shipped.newest(self._pool, graph_id)
            if number is None:
                raise NotFound(f"Graph '{graph_id}' is not served here.")
            return await self._version(graph_id, number)

        spec = GraphSpec(graph_id=graph_id, target=TARGET)
        call: Any = make
        return LoadedGraph(spec=spec, factory=Factory(call=call, config="config", runtime=None))

    async def _version(self, graph_id: str, number: int) -> Graph:
        async with self._loading:
            if number not in self._versions:
                self._versions[number] = await self._load(graph_id, number)
                while len(self._versions) > VERSIONS_KEPT:
                    self._versions.popitem(last=False)
            self._versions.move_to_end(number)
            return self._versions[number]

    async def _load(self, graph_id: str, number: int) -> Graph:
        found = await shipped.payload(self._pool, number)
        if found is None:
            raise ConfigurationError(f"Version {number} of graph {graph_id!r} is gone.")
        if found.python != PYTHON:
            raise ConfigurationError(
                f"Graph {graph_id!r} was shipped from Python {found.python}, and this is Python"
                f" {PYTHON}: use the same version on both sides."
            )
        # In a thread: its imports may take seconds, and must not delay other runs.
        return await asyncio.to_thread(unpack, graph_id, found.data)
