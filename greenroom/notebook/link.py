"""The server of a room: started as a child or joined; it gets the graphs of the notebook.

Graphs are stored in the server's database by value (`greenroom.graphs.shipping`), before the server
starts or while it runs. A process that executes a run loads them from there. This module does not
import Ray.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from greenroom import datadir
from greenroom.core.errors import ConfigurationError
from greenroom.graphs.configuration import FILE_NAME
from greenroom.graphs.placements import PlacementSpec, parse_placement
from greenroom.graphs.shipping import PYTHON
from greenroom.notebook.background import BackgroundLoop
from greenroom.notebook.child import Child, find_on_cluster
from greenroom.notebook.display import Bar
from greenroom.persistence import shipped
from greenroom.persistence.database import open_pool
from greenroom.persistence.embedded import Embedded, start_embedded
from greenroom.persistence.migrations import migrate
from greenroom.persistence.records import register_assistants
from greenroom.settings import Settings

START_STEPS = 11
"""Steps of a bar that shows a start."""

Placements = Mapping[str, Mapping[str, Any]]
"""By graph, the keys of a placement (docs/configuration.md)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """The graphs of a room, and the place of its server.

    Attributes:
        packed: graphs by name, as `pack` returns them.
        placements: the placement of each graph, by name.
        applications: Ray Serve applications beside a server that is started, by name.
        config: a ``langgraph.json``; None for a configuration that only accepts shipped graphs.
        address: the address of a Ray cluster; None for this machine.
        namespace: the Ray namespace on the cluster.
        data_dir: the directory of the data; None for one that is deleted with the room.
        database_url: PostgreSQL to use instead of an embedded one.
    """

    packed: Mapping[str, bytes]
    placements: Placements
    applications: Mapping[str, str]
    config: Path | None
    address: str | None
    namespace: str
    data_dir: Path | None
    database_url: str | None


class ServerLink:
    """A server, and its child process if it was started here.

    Args:
        bar: shows the steps of a start.

    Attributes:
        url: the HTTP address.
        background: the loop that executes coroutines beside the kernel's own loop.
    """

    def __init__(self, bar: Bar) -> None:
        self.url = ""
        self.background = BackgroundLoop()
        self._bar = bar
        self._dsn = ""
        self._child: Child | None = None
        self._embedded: Embedded | None = None

    def open(self, wanted: Wanted) -> None:
        """Joins the running server or starts one, and ships the graphs. Blocks.

        Raises:
            ConfigurationError: the configuration is wrong, or the server does not accept graphs.
            GreenroomError: the server does not start.
        """
        if wanted.address is None:
            self._here(wanted, wanted.database_url)
            return
        self._bar.step(0, f"Looking for a server on the cluster {wanted.address}")
        address = _address(wanted.address)
        found = find_on_cluster(address, wanted.namespace)
        if found is not None:
            self._dsn = wanted.database_url or found["dsn"]
            self._join(found["url"], wanted)
            return
        self._here(
            wanted,
            wanted.database_url or Settings.read().database_url,
            ray_address=address,
            ray_namespace=wanted.namespace,
        )

    def _here(self, wanted: Wanted, database_url: str | None, **settings: Any) -> None:
        """Joins the server that runs in the data directory, or starts a child."""
        temporary = wanted.data_dir is None
        owner = datadir.running(wanted.data_dir) if wanted.data_dir is not None else None
        base = wanted.data_dir or Path(tempfile.mkdtemp(prefix="greenroom-room-"))
        base.mkdir(parents=True, exist_ok=True)
        try:
            self._dsn = database_url or self._start_database(base)
            if owner is not None:
                self._join(owner.url, wanted)
                return
            self._bar.step(1, "Shipping the graphs")
            self.background.do(migrate(self._dsn))
            self.ship(wanted.packed, wanted.placements)
            given = {
                "config": (
                    wanted.config.absolute()
                    if wanted.config is not None
                    else _configuration(base, wanted.applications)
                ),
                # What a killed server's HAProxy leaves behind would outlive the kernel.
                "haproxy": "false",
                **({"database_url": database_url} if database_url is not None else {}),
                # No server will continue a run that is handed back.
                **({"drain_s": 0} if temporary else {}),
                **settings,
            }
            self._child = Child(base, given, temporary=temporary)
            self.url = self._child.url
            steps = iter(range(2, START_STEPS))
            self._child.wait_until_ready(
                lambda step: self._bar.step(next(steps, START_STEPS - 1), step)
            )
        except BaseException:  # also Ctrl-C: what was opened is closed
            if temporary:
                # The child does so only if it could start: until then the database is ours.
                if self._child is not None:
                    self._child.stop()
                if self._embedded is not None:
                    self._embedded.stop()
                shutil.rmtree(base, ignore_errors=True)
            raise
        finally:
            if self._embedded is not None:
                # The server has its own share by now; what dies with it need not wait for us.
                self._embedded.release()
                self._embedded = None

    def _start_database(self, base: Path) -> str:
        self._bar.step(0, "Starting PostgreSQL")
        self._embedded = start_embedded(base / "pg")
        return self._embedded.dsn

    def _join(self, url: str, wanted: Wanted) -> None:
        self.url = url
        if wanted.packed:
            if not httpx.get(f"{url}/info").json()["flags"].get("shipped_graphs"):
                raise ConfigurationError(
                    f"The server {url} takes no graphs from notebooks. Start it with"
                    f' {{"greenroom": {{"shipped_graphs": true}}}} in its {FILE_NAME}.'
                )
            self.ship(wanted.packed, wanted.placements)

    def ship(self, packed: Mapping[str, bytes], placements: Placements) -> None:
        """Stores graphs in the server's database; the next run of each graph uses the new version.

        Args:
            packed: graphs by name, as `pack` returns them.
            placements: the placement of each graph, by name.

        Raises:
            ConfigurationError: a placement is wrong, or names a graph that is not in ``packed``.
        """
        for name in placements:
            if name not in packed:
                raise ConfigurationError(
                    f"'placements' is about {name!r}, which is not among the graphs."
                )
        specs = {
            name: parse_placement(placements.get(name, {}), PlacementSpec(), f"placements.{name}")
            for name in packed
        }
        if packed:
            self.background.do(_ship(self._dsn, packed, specs))

    @property
    def alive(self) -> bool:
        """Whether the server is expected to answer."""
        return self._child is None or self._child.alive

    def close(self) -> None:
        """Ends the server if it was started here. Data in a ``data_dir`` stays."""
        if self._child is not None:
            self._child.stop()
        self.background.close()


def _configuration(base: Path, applications: Mapping[str, str]) -> Path:
    """Returns a configuration for shipped graphs, which may import all modules of this process."""
    content = {
        "dependencies": [
            path if path.startswith(".") else f"./{path}"
            for path in (os.path.relpath(each, base) for each in _import_paths())
        ],
        "graphs": {},
        "greenroom": {"shipped_graphs": True, "applications": dict(applications)},
    }
    file = base / "room.json"
    file.write_text(json.dumps(content))
    return file


def _import_paths() -> list[Path]:
    """Returns the working directory and the entries that the user added to ``sys.path``."""
    installed = [Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)]
    found = [Path.cwd(), *(Path(each).resolve() for each in sys.path if each)]
    return [
        path
        for path in dict.fromkeys(found)
        if path.is_dir() and not any(path.is_relative_to(prefix) for prefix in installed)
    ]


def _address(address: str) -> str:
    """Replaces ``auto`` by the address of this kernel's own cluster, if it is part of one."""
    ray = sys.modules.get("ray")
    if address == "auto" and ray is not None and ray.is_initialized():
        return ray.get_runtime_context().gcs_address
    return address


async def _ship(
    dsn: str, packed: Mapping[str, bytes], placements: Mapping[str, PlacementSpec]
) -> None:
    pool = await open_pool(dsn, application_name="greenroom:notebook")
    try:
        for graph_id, data in packed.items():
            await shipped.ship(
                pool, graph_id, data, python=PYTHON, placement=asdict(placements[graph_id])
            )
        await register_assistants(pool, packed)
    finally:
        await pool.close()
