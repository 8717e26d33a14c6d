"""A room: the interface of a notebook to a server that has its graphs."""

from __future__ import annotations

import asyncio
import atexit
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self
from weakref import WeakKeyDictionary

import httpx
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.client import LangGraphClient, SyncLangGraphClient
from langgraph_sdk.schema import StreamPart

from greenroom.core.errors import ConfigurationError, GreenroomError
from greenroom.notebook import display
from greenroom.notebook.attached import Run
from greenroom.notebook.link import START_STEPS, Placements, ServerLink, Wanted
from greenroom.notebook.recording import RunRecord

THREADS_SHOWN = 50


class Room:
    """A server, its graphs and its client. Made by `open`; a context manager that closes the room.

    Args:
        wanted: the graphs, and the place of the server.
        quiet: show no progress.
    """

    def __init__(self, wanted: Wanted, *, quiet: bool) -> None:
        self._names: list[str] = []
        self._followers: LangGraphClient | None = None
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, LangGraphClient]
        self._clients = WeakKeyDictionary()
        self._sync: SyncLangGraphClient | None = None
        self._closed = False
        self._started = 0
        bar = display.Bar(START_STEPS, quiet=quiet)
        self._link = ServerLink(bar)
        atexit.register(self.close)
        try:
            self._link.open(wanted)
            self._names = list(wanted.packed) or self._served()
        except BaseException:  # also Ctrl-C: what was opened is closed
            self.close()
            raise
        bar.done(f"{', '.join(self._names) or 'No graph'}: served on {self.url}")

    @property
    def url(self) -> str:
        """The HTTP address of the server."""
        return self._link.url

    @property
    def alive(self) -> bool:
        """Whether the server is expected to answer."""
        return not self._closed and self._link.alive

    def add(self, packed: Mapping[str, bytes], placements: Placements) -> None:
        """Adds graphs, or replaces those of the same names for the next run (`ServerLink.ship`)."""
        self._link.ship(packed, placements)
        self._names = [*dict.fromkeys([*packed, *self._names])]

    def _served(self) -> list[str]:
        found = self.sync_client.assistants.search(limit=100)
        return sorted({assistant["graph_id"] for assistant in found})

    def close(self) -> None:
        """Ends the server if this room has started it. Data in a ``data_dir`` stays."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        if self._sync is not None:
            self._sync.close()
        if self._followers is not None:
            self._link.background.do(self._followers.aclose())
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- clients ---------------------------------------------------------------------------------

    @property
    def graphs(self) -> list[str]:
        """The names of the room's graphs; the first one is the default of the other methods."""
        return list(self._names)

    @property
    def client(self) -> LangGraphClient:
        """The official asynchronous client, for ``await`` in cells; one per event loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = get_client(url=self.url)
        return self._clients[loop]

    @property
    def sync_client(self) -> SyncLangGraphClient:
        """The official synchronous client."""
        if self._sync is None:
            self._sync = get_sync_client(url=self.url)
        return self._sync

    # --- runs ------------------------------------------------------------------------------------

    def run(
        self, input: Any = None, *, graph: str | None = None, thread: str | None = None, **run: Any
    ) -> Any:
        """Executes a graph to its end, or to its next interrupt.

        Args:
            input: the input of the graph; a string is a user's message.
            graph: the name of the graph; the default is the first one.
            thread: the id of a thread to continue; by default the run gets a thread of its own.
            run: other arguments of ``client.runs.wait``, e.g. ``command={"resume": "yes"}``.

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
        """Yields the events of a run as they come: ``event``, ``data`` and ``id`` of each.

        Args:
            stream_mode: the stream modes; tokens by default.
            run: other arguments of ``client.runs.stream``.
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
        """Starts a run, returns once the server has stored it, and follows it in the background.

        Args:
            label: the name of the run in tables and timelines.
            run: other arguments of ``client.runs.create``, e.g. ``multitask_strategy``.
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
        return Run(self._link.background, self._followers, record, create)

    def watch(self, input: Any = None, **start: Any) -> Run:
        """Shows a run until it ends: tokens, node, attempt, actor. Arguments as in `start`."""
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
        """Executes a graph once per input, all at the same time, and shows their progress.

        Args:
            run: other arguments of ``client.runs.create``.

        Returns:
            the record of each run, for tables and timelines; a failed run raises no exception.
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
        """Cancels a run, and waits until it has ended.

        Args:
            run: the result of `start`, a run as the client returns it, or an id (then with
                ``thread``).
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
        """Creates a thread; returns its id."""
        return self.sync_client.threads.create()["thread_id"]

    @property
    def threads(self) -> display.Table:
        """Returns a table of the threads that changed last."""
        return display.threads_table(
            self.sync_client.threads.search(
                limit=THREADS_SHOWN, sort_by="updated_at", sort_order="desc"
            )
        )

    def runs(self, thread: str) -> display.Table:
        """Returns a table of the runs of a thread, newest first."""
        return display.stored_runs_table(self.sync_client.runs.list(thread))

    @property
    def actors(self) -> display.Table:
        """Returns a table of the processes that execute runs."""
        counts = httpx.get(f"{self.url}/info", timeout=60).json()["counts"] or {}
        return display.actors_table(counts.get("pool", []))

    def process_of(self, run: Run) -> int | None:
        """Returns the id of the process that executes a run, on its machine, or None."""
        counts = httpx.get(f"{self.url}/info", timeout=60).json()["counts"] or {}
        pool = counts.get("pool", [])
        return next((each["pid"] for each in pool if run.run_id in each["runs"]), None)

    def draw(self, graph: str | None = None) -> Any:
        """Draws a graph."""
        from greenroom.notebook.drawing import draw

        return draw(self.sync_client.assistants.get_graph(graph or self._default()))

    def _repr_html_(self) -> str:
        return (
            f"<div>a room with {', '.join(f'<b>{name}</b>' for name in self._names)} on"
            f' <a href="{self.url}/docs">{self.url}</a></div>'
        )

    def __repr__(self) -> str:
        return f"<Room {', '.join(self._names)} on {self.url}>"


def _input(given: Any) -> Any:
    if isinstance(given, str):
        return {"messages": [{"role": "user", "content": given}]}
    return given


def _print_more(text: str, printed: str) -> str:
    """Prints the new part of a text; if its beginning has changed, the whole text on a new line."""
    if text.startswith(printed):
        print(text[len(printed) :], end="", flush=True)
    else:
        print(f"\n{text}", end="", flush=True)
    return text
