"""What an inspector loads before it answers: graphs, the embedding, the sealing, connections."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from actors.common.setup import InspectorSetup, configuration_of
from actors.common.shipped import ShippedGraphs
from greenroom.core.store import StoreSpec
from greenroom.environment import SECRETS, forget_secrets
from greenroom.graphs.embedding import Embedder, load_embedder
from greenroom.graphs.encryption import load_sealing
from greenroom.graphs.loading import LoadedGraph, load_graph
from greenroom.graphs.module_path import make_importable
from greenroom.persistence.checkpoints import PooledSaver
from greenroom.persistence.database import Pool, open_pool
from greenroom.persistence.records import name_assistants
from greenroom.persistence.saving import Saving
from greenroom.persistence.serializing import StateSerializer
from greenroom.persistence.store import Store
from greenroom.sealing import UNSEALED, Sealing

LANE_CONNECTIONS = 4
"""The limit of one lane's connections; an unused lane closes them after some minutes."""


@dataclass(frozen=True, slots=True)
class Means:
    """A lane's connections, saver and stores; all of them belong to the lane's loop."""

    pool: Pool
    saving: Saving
    serde: StateSerializer
    store: Store
    shipped: ShippedGraphs

    def saver(self, thread_id: str) -> PooledSaver:
        """Returns a saver for a thread; the id is empty for a question about a graph."""
        return PooledSaver(self.pool, self.saving, thread_id=thread_id, serde=self.serde)


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """What an inspector has loaded.

    Attributes:
        graphs: the graphs of the configuration.
        pool: the inspector's own connections.
        means: makes the `Means` of a lane, on the lane's loop.
        takes_shipped: whether it answers for graphs of notebooks as well.
        embedder: of the store; None without ``store.index``.
        sealing: seals and opens state.
    """

    graphs: Mapping[str, LoadedGraph]
    pool: Pool
    means: Callable[[], Awaitable[Means]]
    takes_shipped: bool = False
    embedder: Embedder | None = None
    sealing: Sealing = UNSEALED


async def loaded(setup: InspectorSetup) -> Loaded:
    """Loads the graphs and connects to the database.

    Raises:
        ConfigurationError: a graph does not import; the message names it and the reason.
    """
    configuration = configuration_of(setup)
    forget_secrets({*SECRETS, *configuration.webhooks.variables})
    os.environ.update(configuration.env_of_graphs)
    graphs = {graph_id: load_graph(configuration, graph_id) for graph_id in setup.spec.graphs}
    embedder = load_embedder(configuration)
    if configuration.shipped_graphs:
        make_importable(configuration.import_paths)
    sealing = load_sealing(configuration, setup.encryption_keys)
    serde = StateSerializer(configuration.keeping, sealing=sealing)
    pool = await _open_pool(setup, min_size=1)
    await name_assistants(pool, {graph_id: graph.title for graph_id, graph in graphs.items()})
    return Loaded(
        graphs=graphs,
        pool=pool,
        means=partial(_means, setup, configuration.store, embedder, sealing, serde),
        takes_shipped=configuration.shipped_graphs,
        embedder=embedder,
        sealing=sealing,
    )


async def _means(
    setup: InspectorSetup,
    spec: StoreSpec,
    embedder: Embedder | None,
    sealing: Sealing,
    serde: StateSerializer,
) -> Means:
    pool = await _open_pool(setup, min_size=0)
    store = Store(pool, spec, embedder, sealing=sealing)
    return Means(pool, Saving(pool, sealing), serde, store, ShippedGraphs(pool))


async def _open_pool(setup: InspectorSetup, *, min_size: int) -> Pool:
    return await open_pool(
        setup.dsn,
        application_name=f"greenroom:{setup.name}",
        min_size=min_size,
        max_size=LANE_CONNECTIONS,
    )
