"""The commands: ``greenroom serve``, ``check``, ``stop``, ``version``.

Whatever goes wrong is one sentence on standard error and an exit code that is not 0; and whatever
was started is ended, however the command ends. `actors` is imported late: Ray reads its environment
while it is imported, and ``version`` should not wait for it.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Protocol

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from greenroom import datadir
from greenroom.checks import GraphCheck, GraphReport, check_database, check_port
from greenroom.core.errors import GreenroomError
from greenroom.environment import (
    apply_ray_environment,
    make_haproxy_dir,
    remove_haproxy_dir,
)
from greenroom.graphs.configuration import Configuration, read_configuration
from greenroom.graphs.placements import PlacementSpec
from greenroom.logs import configure_logs
from greenroom.settings import Settings

log = logging.getLogger(__name__)

out = Console(highlight=False, soft_wrap=True)
err = Console(highlight=False, soft_wrap=True, stderr=True)

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, what service managers send, and a terminal that is closed."""

ORPHANS_PATIENCE_S = 15.0
"""What the processes of a server that was killed get to notice that and go."""

STOP_MARGIN_S = 30
"""What a server gets to end beyond the time its runs may take to drain."""

app = typer.Typer(
    help="LangGraph graphs as Ray actors, behind the LangGraph Platform API.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Configuration file. [langgraph.json]")
]
DataDirOption = Annotated[
    Path | None, typer.Option("--data-dir", help="Embedded database and own files. [.greenroom]")
]


Progress = Callable[[str], None]
"""Is told the step that begins; an empty one ends what is shown."""


class RunningServer(Protocol):
    """What `actors.server.server.Server` is to the command line."""

    def start(self, progress: Progress) -> None: ...

    def stop(self) -> None: ...


class Stopped(BaseException):
    """Somebody asked us to end: Ctrl-C, or SIGTERM. No failure, so no Exception either."""


@app.command()
def serve(
    config: ConfigOption = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. [127.0.0.1]", show_default=False)
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on. [8000]")] = None,
    database_url: Annotated[
        str | None, typer.Option(help="PostgreSQL to use instead of an embedded one.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Existing Ray cluster to join instead of an own local Ray.")
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(help="Ray namespace of the server's actors. [greenroom]")
    ] = None,
    data_dir: DataDirOption = None,
    replicas: Annotated[int | None, typer.Option(help="Gateway processes. [1]")] = None,
    haproxy: Annotated[
        bool | None,
        typer.Option("--haproxy/--no-haproxy", help="HAProxy in front, where there is one. [on]"),
    ] = None,
    dashboard: Annotated[
        bool | None, typer.Option("--dashboard/--no-dashboard", help="Ray's dashboard. [off]")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error. [info]")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="auto, json or plain. [auto]")] = None,
) -> None:
    """Serve the graphs of a configuration until Ctrl-C or SIGTERM."""
    settings = Settings.read(
        config=config,
        host=host,
        port=port,
        database_url=database_url,
        ray_address=address,
        ray_namespace=namespace,
        data_dir=data_dir,
        gateway_replicas=replicas,
        haproxy=haproxy,
        dashboard=dashboard,
        log_level=log_level,
        log_format=log_format,
    )
    configure_logs(settings.log_level, settings.log_format)
    run_server(settings, _make_server)


@app.command()
def check(config: ConfigOption = None) -> None:
    """Validate the configuration and import every graph."""
    settings = Settings.read(config=config)
    configuration = read_configuration(settings.config)
    _note(configuration.warnings)
    with GraphCheck(settings.config, loud=True) as graph_check:
        with err.status("Importing the graphs ..."):
            reports = graph_check.finish()
    out.print(_table(configuration, reports))
    problems = [report.problem for report in reports if report.problem is not None]
    for problem in problems:
        _complain(problem)
    if problems:
        raise typer.Exit(1)


@app.command()
def stop(data_dir: DataDirOption = None) -> None:
    """End the server that runs in a data directory."""
    settings = Settings.read(data_dir=data_dir)
    owner = datadir.stop(settings.data_dir, settings.drain_s + STOP_MARGIN_S)
    if owner is None:
        out.print(f"No server runs in {settings.data_dir}.")
    else:
        out.print(f"The server {owner.url} (process {owner.pid}) has ended.")


@app.command("version")
def show_versions() -> None:
    """Show the versions of Greenroom and of what it stands on."""
    for package in ("greenroom", "ray", "langgraph", "langgraph-checkpoint-postgres"):
        out.print(f"{package} {version_of(package)}", markup=False)
    out.print(f"python {sys.version.split()[0]}")


def version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"  # Greenroom itself, when it runs from a source tree


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line; always ends in SystemExit."""
    try:
        app(args=arguments)
    except GreenroomError as error:
        _complain(str(error))
        sys.exit(1)
    except Stopped:
        sys.exit(0)


def run_server(
    settings: Settings, make_server: Callable[[Settings, Configuration], RunningServer]
) -> None:
    """Starts a server, shows how far it is, and ends it when told to.

    Args:
        make_server: gives the server; called when Ray's environment is set.

    Raises:
        GreenroomError: it cannot start, with the sentence for people. Nothing is left running.
    """
    with _signals(settings) as told_to_stop, _steps() as progress:
        progress("Reading the configuration")
        configuration = read_configuration(settings.config)
        _note([*configuration.warnings, *exceeded(configuration, settings.registry_shards)])
        with (
            datadir.claim(settings.data_dir, settings.url) as killed,
            GraphCheck(settings.config) as graph_check,
        ):
            progress(f"Checking that port {settings.port} is free")
            _free_port(settings, ORPHANS_PATIENCE_S if killed is not None else 0.0)
            if settings.database_url is not None:
                progress("Checking the database")
                check_database(settings.database_url)

            def step(text: str) -> None:
                graph_check.refuse_broken(wait=False)
                progress(text)

            progress("Loading Ray")
            make_haproxy_dir(settings.data_dir)
            apply_ray_environment(settings)
            server = make_server(settings, configuration)
            try:
                try:
                    server.start(step)
                except Exception as error:
                    # Whatever a part said about it, a graph that does not import is the cause.
                    graph_check.refuse_broken(wait=True)
                    if isinstance(error, GreenroomError):
                        raise
                    # Ray, Serve and the operating system raise what they like; it is said in one
                    # sentence here, and shown in full to whoever asks for it.
                    log.debug("The server could not start.", exc_info=True)
                    raise GreenroomError(
                        f"The server could not start: {_first_line(error)}"
                        " ('--log-level debug' shows where)."
                    ) from error
                reports = graph_check.refuse_broken(wait=True)
                progress("")
                _note(sentence for report in reports for sentence in report.warnings)
                _banner(settings, configuration, reports)
                told_to_stop()
            finally:
                progress("Stopping")
                try:
                    server.stop()
                finally:
                    datadir.end_orphans(settings.data_dir)
                    remove_haproxy_dir(settings.data_dir)
                    progress("")


def _free_port(settings: Settings, patience_s: float) -> None:
    """Refuses a port that is taken, unless by a killed server's leftovers, which will go."""
    deadline_s = time.monotonic() + patience_s
    while True:
        datadir.end_orphans(settings.data_dir)
        try:
            check_port(settings.host, settings.port)
            return
        except GreenroomError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.1)


def _make_server(settings: Settings, configuration: Configuration) -> RunningServer:
    from actors.server.server import Server  # imports ray, whose environment is set by now

    # Serve says on the terminal what our own steps say already, with another look.
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    return Server(settings, configuration)


SIGNAL_TURN_S = 0.5


@contextmanager
def _signals(settings: Settings) -> Iterator[Callable[[], None]]:
    """The first of the signals raises `Stopped`; the second ends this process at once.

    Gives a function that blocks until then. It sets the handlers again, since ``ray.init`` puts its
    own in their place.
    """
    received = 0

    def receive(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received += 1
        if received > 1:
            # Ray's processes and the embedded database end with us; the proxy would not.
            datadir.end_orphans(settings.data_dir)
            remove_haproxy_dir(settings.data_dir)
            os._exit(128 + number)
        raise Stopped

    def listen() -> None:
        for number in ENDING_SIGNALS:
            signal.signal(number, receive)

    def wait() -> None:
        listen()
        never = threading.Event()
        # In turns: a signal that comes between two bytecodes, just before the wait, does not end
        # it. And it may have come while something ran that swallows exceptions, as destructors do.
        while not received:
            never.wait(SIGNAL_TURN_S)
        raise Stopped

    before = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    listen()
    try:
        yield wait
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _steps() -> Iterator[Progress]:
    """Shows the step that is under way: a spinner on a terminal, else one line per step."""
    if not err.is_terminal:

        def line(step: str) -> None:
            if step:
                err.print(f"{step} ...", markup=False)

        yield line
        return
    with err.status("") as status:

        def spin(step: str) -> None:
            if step:
                status.update(f"{escape(step)} ...")
                status.start()
            else:
                status.stop()

        yield spin


def _banner(
    settings: Settings, configuration: Configuration, reports: Sequence[GraphReport]
) -> None:
    out.print()
    out.print(f"  [bold]Greenroom {version_of('greenroom')}[/bold] serves {settings.url}")
    out.print(f"  graphs  {', '.join(configuration.graphs)}", markup=False)
    out.print(f"  docs    {settings.url}/docs", markup=False)
    if reports:
        out.print("\n  Stream some tokens:\n")
        out.print(curl(settings.url, reports), markup=False)
    out.print("\n  Ctrl-C ends it.\n")


def curl(url: str, reports: Sequence[GraphReport]) -> str:
    """A command to paste that streams from the first graph one can talk to, or the first at all."""
    chats = [report.graph_id for report in reports if report.chats]
    request: dict[str, Any] = {"assistant_id": chats[0] if chats else reports[0].graph_id}
    if chats:
        request["input"] = {"messages": [{"role": "user", "content": "Hello"}]}
        request["stream_mode"] = "messages-tuple"
    else:
        request["input"] = {}
        request["stream_mode"] = "updates"
    return (
        f"  curl -N {url}/runs/stream \\\n    -H 'content-type: application/json' \\\n"
        f"    -d '{json.dumps(request)}'"
    )


def _table(configuration: Configuration, reports: Sequence[GraphReport]) -> Table:
    table = Table("graph", "kind", "placement", "nodes", box=None, pad_edge=False)
    found = {report.graph_id: report for report in reports}
    for graph_id, spec in configuration.graphs.items():
        report = found.get(graph_id, GraphReport(graph_id=graph_id, kind="not reached"))
        kind = "[red]broken[/red]" if report.problem else report.kind
        nodes = ", ".join(report.nodes)
        _note(report.warnings)
        table.add_row(escape(graph_id), kind, escape(placement(spec.placement)), escape(nodes))
    return table


def exceeded(configuration: Configuration, shards: int) -> list[str]:
    """A sentence for each graph that may have more actors than its placement says."""
    return [
        f"Graph '{graph_id}' may have {shards} actors and not {graph.placement.max_actors}"
        f" (max_actors): each of the {shards} registries keeps actors of its own."
        for graph_id, graph in configuration.graphs.items()
        if 0 < graph.placement.max_actors < shards
    ]


def placement(spec: PlacementSpec) -> str:
    """A placement in a few words: what one actor takes, and how many runs share it."""
    parts = [f"{spec.num_cpus:g} CPU"]
    if spec.num_gpus:
        parts.append(f"{spec.num_gpus:g} GPU")
    if spec.memory_mib:
        parts.append(f"{spec.memory_mib} MiB")
    parts += [f"{amount:g} {name}" for name, amount in spec.resources.items()]
    if spec.runs_per_actor > 1:
        parts.append(f"{spec.runs_per_actor} runs an actor")
    return ", ".join(parts)


def _note(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        err.print(f"[yellow]Note:[/yellow] {escape(sentence)}")


def _complain(sentence: str) -> None:
    err.print(f"[red]Error:[/red] {escape(sentence)}")


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.partition("\n")[0].rstrip(".")
