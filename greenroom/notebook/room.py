"""A room: a server for the graphs of a notebook, and what one does with it there.

    open ── is there one already? ──> ship the graphs ──> start a child, or join ──> Room

Graphs go into the server's database by value (`greenroom.graphs.shipping`), before the server
starts or while it runs: whoever executes a run finds them there. Nothing of Ray is imported here.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self
from weakref import WeakKeyDictionary

import httpx
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.client import LangGraphClient, SyncLangGraphClient
from langgraph_sdk.schema import StreamPart

from greenroom import datadir
from greenroom.core.errors import ConfigurationError, GreenroomError
from greenroom.graphs.configuration import FILE_NAME
from greenroom.graphs.placements import PlacementSpec, parse_placement
from greenroom.graphs.shipping import PYTHON, pack
from greenroom.notebook import display
from greenroom.notebook.child import Child, find_on_cluster
from greenroom.notebook.following import BackgroundLoop, Run
from greenroom.notebook.recording import RunRecord
from greenroom.persistence import shipped
from greenroom.persistence.database import open_pool
from greenroom.persistence.embedded import Embedded, start_embedded
from greenroom.persistence.migrations import migrate
from greenroom.persistence.records import register_assistants
from greenroom.settings import Settings

DEFAULT_NAME = "agent"
START_STEPS = 11
THREADS_SHOWN = 50

Graphs = Any
"""A compiled graph or a builder; or some of them, by their names."""
Placements = Mapping[str, Mapping[str, Any]]
"""By graph, the keys of a placement (docs/architecture.md, "Configuration")."""

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
    """A room that serves graphs: one that is open already, or a new one.

    Without ``address`` the server runs on this machine: the one of this kernel if there is one
    (executing the cell again replaces its graphs for the next run), the one that runs in
    ``data_dir``, or a new one that ends with this kernel, however that ends.

    Args:
        graphs: a graph, ``{"name": graph}``, or the path of a ``langgraph.json``. A lone graph is
            called by its own name, or ``agent``.
        placements: by graph: resources, limits, runs per actor. A graph that is not named has the
            defaults.
        applications: Ray Serve applications to deploy beside a server that is started, by name:
            ``module:application``, for `greenroom.models.ServeChatModel`.
        address: of a Ray cluster. Its Greenroom server is joined; where there is none, one is
            started on it, that ends with this kernel.
        namespace: Ray namespace on the cluster; another one is another server.
        data_dir: where the data is to stay; by default it goes with the room.
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
        known._ship(packed, placements or {})
        return known
    room = Room(
        packed,
        placements or {},
        applications or {},
        config=config,
        address=address,
        namespace=namespace,
        data_dir=Path(data_dir).absolute() if data_dir is not None else None,
        database_url=database_url,
        quiet=quiet,
    )
    if private:
        _of_this_kernel = room
    return room


class Room:
    """A server, its graphs and its client. Made by `open`; a context manager that closes it.

    Attributes:
        url: the HTTP address.
    """

    def __init__(
        self,
        packed: Mapping[str, bytes],
        placements: Placements,
        applications: Mapping[str, str],
        *,
        config: Path | None,
        address: str | None,
        namespace: str,
        data_dir: Path | None,
        database_url: str | None,
        quiet: bool,
    ) -> None:
        self._names: list[str] = []
        self._child: Child | None = None
        self._embedded: Embedded | None = None
        self._background = BackgroundLoop()
        self._followers: LangGraphClient | None = None
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, LangGraphClient]
        self._clients = WeakKeyDictionary()
        self._sync: SyncLangGraphClient | None = None
        self._bar = display.Bar(START_STEPS, quiet=quiet)
        self._applications = applications
        self._closed = False
        self._started = 0
        self.url = ""
        self._dsn = ""
        atexit.register(self.close)
        try:
            if address is not None:
                self._on_cluster(
                    packed, placements, config, address, namespace, data_dir, database_url
                )
            else:
                self._here(packed, placements, config, data_dir, database_url)
            self._names = self._names or self._served()
        except BaseException:  # also Ctrl-C: what was opened is closed
            self.close()
            raise
        self._bar.done(f"{', '.join(self._names) or 'No graph'}: served on {self.url}")

    # --- starting and joining --------------------------------------------------------------------

    def _here(
        self,
        packed: Mapping[str, bytes],
        placements: Placements,
        config: Path | None,
        data_dir: Path | None,
        database_url: str | None,
        **settings: Any,
    ) -> None:
        owner = datadir.running(data_dir) if data_dir is not None else None
        temporary = data_dir is None
        base = data_dir or Path(tempfile.mkdtemp(prefix="greenroom-room-"))
        base.mkdir(parents=True, exist_ok=True)
        try:
            self._dsn = database_url or self._start_database(base)
            if owner is not None:
                self._join(owner.url, packed, placements)
                return
            self._bar.step(1, "Shipping the graphs")
            self._background.do(migrate(self._dsn))
            self._ship(packed, placements)
            given = {
                "config": (
                    config.absolute()
                    if config is not None
                    else _configuration(base, self._applications)
                ),
                # What a killed server's HAProxy leaves behind would outlive the kernel.
                "haproxy": "false",
                **({"database_url": database_url} if database_url is not None else {}),
                # Nobody will take up what is handed back.
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

    def _join(self, url: str, packed: Mapping[str, bytes], placements: Placements) -> None:
        self.url = url
        if packed:
            if not httpx.get(f"{url}/info").json()["flags"].get("shipped_graphs"):
                raise ConfigurationError(
                    f"The server {url} takes no graphs from notebooks. Start it with"
                    f' {{"greenroom": {{"shipped_graphs": true}}}} in its {FILE_NAME}.'
                )
            self._ship(packed, placements)

    def _on_cluster(
        self,
        packed: Mapping[str, bytes],
        placements: Placements,
        config: Path | None,
        address: str,
        namespace: str,
        data_dir: Path | None,
        database_url: str | None,
    ) -> None:
        self._bar.step(0, f"Looking for a server on the cluster {address}")
        address = _address(address)
        found = find_on_cluster(address, namespace)
        if found is not None:
            self._dsn = database_url or found["dsn"]
            self._join(found["url"], packed, placements)
            return
        self._here(
            packed,
            placements,
            config,
            data_dir,
            database_url or Settings.read().database_url,
            ray_address=address,
            ray_namespace=namespace,
        )

    def _ship(self, packed: Mapping[str, bytes], placements: Placements) -> None:
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
            self._background.do(_ship(self._dsn, packed, specs))
            self._names = [*dict.fromkeys([*packed, *self._names])]

    def _served(self) -> list[str]:
        found = self.sync_client.assistants.search(limit=100)
        return sorted({assistant["graph_id"] for assistant in found})

    @property
    def alive(self) -> bool:
        """Whether its server can be expected to answer."""
        return not self._closed and (self._child is None or self._child.alive)

    def close(self) -> None:
        """Ends the server, if this room has started it. Data in a ``data_dir`` stays."""
        global _of_this_kernel
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        if _of_this_kernel is self:
            _of_this_kernel = None
        if self._sync is not None:
            self._sync.close()
        if self._followers is not None:
            self._background.do(self._followers.aclose())
        if self._child is not None:
            self._child.stop()
        self._background.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- clients ---------------------------------------------------------------------------------

    @property
    def graphs(self) -> list[str]:
        """The names of its graphs; the first is the one that is meant where none is named."""
        return list(self._names)

    @property
    def client(self) -> LangGraphClient:
        """The official client, to ``await`` in cells; one for each event loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = get_client(url=self.url)
        return self._clients[loop]

    @property
    def sync_client(self) -> SyncLangGraphClient:
        """The official client for code that does not await."""
        if self._sync is None:
            self._sync = get_sync_client(url=self.url)
        return self._sync

    # --- runs ------------------------------------------------------------------------------------

    def run(
        self, input: Any = None, *, graph: str | None = None, thread: str | None = None, **run: Any
    ) -> Any:
        """Runs a graph to its end, or to its next interrupt.

        Args:
            input: the graph's; a string is a user's message.
            graph: the first one by default.
            thread: goes on with what is there; by default it has one of its own.
            run: anything else that ``client.runs.wait`` takes, e.g. ``command={"resume": "yes"}``.

        Returns:
            the graph's state.

        Raises:
            Exception: the run's own error, as the official client raises it.
        """
        thread = thread or self.new_thread()
        return self.sync_client.runs.wait(
            thread, graph or self._default(), input=_input(input), **run
        )

    def stream(
        self,
        input: Any = None,
        *,
        graph: str | None = None,
        thread: str | None = None,
        stream_mode: Any = "messages-tuple",
        **run: Any,
    ) -> Iterator[StreamPart]:
        """The events of a run, as they come: ``event``, ``data`` and ``id`` of each.

        Args:
            stream_mode: what is streamed; tokens by default.
            run: anything else that ``client.runs.stream`` takes.
        """
        thread = thread or self.new_thread()
        return self.sync_client.runs.stream(
            thread,
            graph or self._default(),
            input=_input(input),
            stream_mode=stream_mode,
            **run,
        )

    def start(
        self,
        input: Any = None,
        *,
        graph: str | None = None,
        thread: str | None = None,
        label: str | None = None,
        **run: Any,
    ) -> Run:
        """Starts a run and comes back as soon as the server has it; it is followed meanwhile.

        Args:
            label: what it is called in tables and timelines.
            run: anything else that ``client.runs.create`` takes, e.g. ``multitask_strategy``.
        """
        self._started += 1
        label = label or f"run {self._started}"
        return self._follow(input, graph or self._default(), thread, label, run).created()

    def _follow(
        self, input: Any, graph: str, thread: str | None, label: str, run: Mapping[str, Any]
    ) -> Run:
        if self._followers is None:
            self._followers = get_client(url=self.url)  # of the background's loop alone
        record = RunRecord(label=label, graph=graph, thread_id=thread or "", asked_s=time.time())
        create = {"assistant_id": graph, "input": _input(input), **run}
        return Run(self._background, self._followers, record, create)

    def watch(self, input: Any = None, **start: Any) -> Run:
        """Shows a run while it runs: tokens, node, attempt, actor. Takes what `start` takes."""
        run = self.start(input, **start)
        shown = display.Shown()
        printed = ""
        while not run.record.over:
            run.wait_for_change()
            shown.draw(lambda: display.live_html(run.record), last=run.record.over)
            if not display.in_notebook():
                printed = _print_more(run.text, printed)
        run.shown()
        if printed:
            print()
        return run

    def map(
        self, inputs: Sequence[Any], *, graph: str | None = None, **run: Any
    ) -> list[RunRecord]:
        """Runs a graph once for each input, all at once, and shows how far they are.

        Args:
            run: anything else that ``client.runs.create`` takes.

        Returns:
            what was seen of each, for tables and timelines. A run that fails is no exception.
        """
        graph = graph or self._default()
        runs = [
            self._follow(each, graph, None, str(number), run)
            for number, each in enumerate(inputs, 1)
        ]
        bar = display.Bar(len(runs))
        for place, each in enumerate(runs):
            done = max(place, sum(one.record.over for one in runs))
            bar.step(done, f"{done} of {len(runs)} runs")
            each.wait()
        bar.done(f"{len(runs)} runs")
        return [each.record for each in runs]

    def cancel(self, run: Run | Mapping[str, Any] | str, thread: str | None = None) -> None:
        """Stops a run, and waits until it has stopped.

        Args:
            run: what `start` gave, a run as the client gives it, or its id (then with ``thread``).
        """
        if isinstance(run, Run):
            run.cancel()
            return
        run_id = run if isinstance(run, str) else str(run["run_id"])
        thread_id = thread if isinstance(run, str) else str(run["thread_id"])
        if thread_id is None:
            raise GreenroomError("Name the run's thread too: room.cancel(run_id, thread_id).")
        self.sync_client.runs.cancel(thread_id, run_id, wait=True)

    def _default(self) -> str:
        if not self._names:
            raise ConfigurationError("The room has no graph yet: greenroom.open(graph) adds one.")
        return self._names[0]

    # --- seeing ----------------------------------------------------------------------------------

    def new_thread(self) -> str:
        """The id of a new thread."""
        return self.sync_client.threads.create()["thread_id"]

    @property
    def threads(self) -> display.Table:
        """The threads that were changed last, as a table."""
        return display.threads_table(
            self.sync_client.threads.search(
                limit=THREADS_SHOWN, sort_by="updated_at", sort_order="desc"
            )
        )

    def runs(self, thread: str) -> display.Table:
        """The runs of a thread, newest first, as a table."""
        return display.stored_runs_table(self.sync_client.runs.list(thread))

    @property
    def actors(self) -> display.Table:
        """The processes that execute runs, as a table."""
        counts = httpx.get(f"{self.url}/info", timeout=60).json()["counts"] or {}
        return display.actors_table(counts.get("pool", []))

    def process_of(self, run: Run) -> int | None:
        """The process that executes a run, on its machine; None when none does."""
        counts = httpx.get(f"{self.url}/info", timeout=60).json()["counts"] or {}
        pool = counts.get("pool", [])
        return next((each["pid"] for each in pool if run.run_id in each["runs"]), None)

    def draw(self, graph: str | None = None) -> Any:
        """A picture of a graph."""
        from greenroom.notebook.drawing import draw

        return draw(self.sync_client.assistants.get_graph(graph or self._default()))

    def _repr_html_(self) -> str:
        return (
            f"<div>a room with {', '.join(f'<b>{name}</b>' for name in self._names)} on"
            f' <a href="{self.url}/docs">{self.url}</a></div>'
        )

    def __repr__(self) -> str:
        return f"<Room {', '.join(self._names)} on {self.url}>"


def _by_name(graphs: Any) -> dict[str, Any]:
    if isinstance(graphs, Mapping):
        return dict(graphs)
    name = getattr(graphs, "name", None)
    return {name if name and name != "LangGraph" else DEFAULT_NAME: graphs}


def _configuration(base: Path, applications: Mapping[str, str]) -> Path:
    """For graphs that all come by value, and may import what can be imported here."""
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
    """The working directory, and what somebody has put on ``sys.path``; not what is installed."""
    installed = [Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)]
    found = [Path.cwd(), *(Path(each).resolve() for each in sys.path if each)]
    return [
        path
        for path in dict.fromkeys(found)
        if path.is_dir() and not any(path.is_relative_to(prefix) for prefix in installed)
    ]


def _address(address: str) -> str:
    """``auto`` means the cluster that this kernel is part of, if it is part of one."""
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


def _input(given: Any) -> Any:
    if isinstance(given, str):
        return {"messages": [{"role": "user", "content": given}]}
    return given


def _print_more(text: str, printed: str) -> str:
    """Prints what has come since; all of it on a new line if it is not the same any more."""
    if text.startswith(printed):
        print(text[len(printed) :], end="", flush=True)
    else:
        print(f"\n{text}", end="", flush=True)
    return text
