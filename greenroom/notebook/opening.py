"""`open`: opens a room for the graphs of a notebook, or returns the open one.

open ── is one open already? ──> ship the graphs ──> start a child, or join ──> Room
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from greenroom.graphs.shipping import pack
from greenroom.notebook.link import Placements, Wanted
from greenroom.notebook.room import Room

DEFAULT_NAME = "agent"

Graphs = Any
"""A compiled graph or a builder; or some of them, by their names."""

_of_this_kernel: Room | None = None


def open(
    graphs: Graphs | Path | str | None = None,
    *,
    placements: Placements | None = None,
    applications: Mapping[str, str] | None = None,
    address: str | None = None,
    namespace: str = "greenroom",
    data_dir: Path | str | None = None,
    database_url: str | None = None,
    quiet: bool = False,
) -> Room:
    """Returns a room that serves graphs: the open one, or a new one.

    Without ``address`` the server runs on this machine. It is the server of this kernel if there is
    one (executing the cell again replaces its graphs for the next run), or the server that runs in
    ``data_dir``, or a new server that ends with this kernel.

    Args:
        graphs: a graph, ``{"name": graph}``, or the path of a ``langgraph.json``. A single graph
            gets its own name, or ``agent``.
        placements: the placement of each graph: resources, limits, runs per actor. A graph without
            an entry has the defaults.
        applications: Ray Serve applications to deploy beside a server that is started, by name:
            ``module:application``, for `greenroom.models.ServeChatModel`.
        address: the address of a Ray cluster. The room joins its Greenroom server; if there is
            none, it starts one there, which ends with this kernel.
        namespace: the Ray namespace on the cluster; each server has its own.
        data_dir: the directory of the data; by default the data is deleted with the room.
        database_url: PostgreSQL to use instead of an embedded one.
        quiet: show no progress.

    Raises:
        ConfigurationError: a graph cannot be shipped, or the configuration is wrong.
        GreenroomError: the server does not start.
    """
    global _of_this_kernel
    config: Path | None = None
    if isinstance(graphs, str | Path):
        config, graphs = Path(graphs), None
    by_name = {} if graphs is None else _by_name(graphs)
    # Before anything is started: what cannot be shipped is heard of at once.
    packed = {name: pack(name, graph, beside=Path.cwd()) for name, graph in by_name.items()}
    known = _of_this_kernel
    private = config is None and address is None and data_dir is None and database_url is None
    if private and known is not None and known.alive:
        known.add(packed, placements or {})
        return known
    wanted = Wanted(
        packed=packed,
        placements=placements or {},
        applications=applications or {},
        config=config,
        address=address,
        namespace=namespace,
        data_dir=Path(data_dir).absolute() if data_dir is not None else None,
        database_url=database_url,
    )
    room = Room(wanted, quiet=quiet)
    if private:
        _of_this_kernel = room
    return room


def _by_name(graphs: Any) -> dict[str, Any]:
    if isinstance(graphs, Mapping):
        return dict(cast(Mapping[str, Any], graphs))
    name = getattr(graphs, "name", None)
    return {name if name and name != "LangGraph" else DEFAULT_NAME: graphs}
