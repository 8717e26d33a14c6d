"""The commands: ``greenroom serve``, ``dev``, ``check``, ``new``, ``examples``, ``stop``,
``keys``, ``version``.

Each failure prints one sentence on standard error and gives an exit code other than 0. A command
ends everything that it has started, also when it fails. `actors` is imported late: Ray reads its
environment during its import, and ``version`` should not wait for that import.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from greenroom import datadir
from greenroom.core.errors import ConfigurationError, GreenroomError
from greenroom.core.faults import NO_FAULTS, Faults
from greenroom.exposure import refuse_password_on_the_command_line
from greenroom.graph_check import GraphCheck, GraphReport
from greenroom.graphs.configuration import Configuration, read_configuration
from greenroom.graphs.placements import PlacementSpec
from greenroom.graphs.platform_check import refusals_of
from greenroom.logs import configure_logs
from greenroom.platform_variables import without_effect
from greenroom.projects import Template, example_files, project_files, write_files
from greenroom.running import RunningServer, run_server, version_of
from greenroom.settings import Settings
from greenroom.signals import Stopped
from greenroom.terminal import complain, err, note, out

log = logging.getLogger(__name__)

STOP_MARGIN_S = 30
"""The time in which a server must end, beyond the time that its runs may take to drain."""

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
HostOption = Annotated[
    str | None, typer.Option(help="Address to listen on. [127.0.0.1]", show_default=False)
]
PortOption = Annotated[int | None, typer.Option(help="Port to listen on. [8000]")]
DatabaseUrlOption = Annotated[
    str | None, typer.Option(help="PostgreSQL to use instead of an embedded one.")
]
LogLevelOption = Annotated[str | None, typer.Option(help="debug, info, warning or error. [info]")]
DataDirOption = Annotated[
    Path | None, typer.Option("--data-dir", help="Embedded database and own files. [.greenroom]")
]


@app.command()
def serve(
    config: ConfigOption = None,
    host: HostOption = None,
    port: PortOption = None,
    open_: Annotated[
        bool | None,
        typer.Option(
            "--open/--no-open", help="Let other machines in although nobody is authenticated. [off]"
        ),
    ] = None,
    database_url: DatabaseUrlOption = None,
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
    allow_broken: Annotated[
        bool | None,
        typer.Option(
            "--allow-broken/--no-allow-broken",
            help="Start although some graphs cannot be imported. [off]",
        ),
    ] = None,
    log_level: LogLevelOption = None,
    log_format: Annotated[str | None, typer.Option(help="auto, json or plain. [auto]")] = None,
) -> None:
    """Serve the graphs of a configuration until Ctrl-C or SIGTERM."""
    refuse_password_on_the_command_line(database_url)
    settings = Settings.read(
        config=config,
        host=host,
        open=open_,
        port=port,
        database_url=database_url,
        ray_address=address,
        ray_namespace=namespace,
        data_dir=data_dir,
        gateway_replicas=replicas,
        haproxy=haproxy,
        dashboard=dashboard,
        allow_broken=allow_broken,
        log_level=log_level,
        log_format=log_format,
    )
    configure_logs(settings.log_level, settings.log_format)
    run_server(settings, make_server)


@app.command()
def dev(
    config: ConfigOption = None,
    host: HostOption = None,
    port: PortOption = None,
    database_url: DatabaseUrlOption = None,
    data_dir: DataDirOption = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open its page. [on]", show_default=False)
    ] = True,
    debug_port: Annotated[
        int | None,
        typer.Option(help="Let a debugger into each run's process, from this port on (debugpy)."),
    ] = None,
    log_level: LogLevelOption = None,
) -> None:
    """Serve the graphs, and execute the next run with what has changed in the project."""
    refuse_password_on_the_command_line(database_url)
    settings = Settings.read(
        config=config,
        host=host,
        port=port,
        database_url=database_url,
        data_dir=data_dir,
        log_level=log_level,
        debug_port=debug_port,
        reload=True,
    )
    if settings.debug_port is not None and importlib.util.find_spec("debugpy") is None:
        raise ConfigurationError(
            "'--debug-port' needs debugpy, which is not installed here: pip install debugpy"
        )
    if settings.ray_address is not None:
        raise ConfigurationError(
            "'greenroom dev' watches the files of this machine and starts a Ray of its own; unset"
            " GREENROOM_RAY_ADDRESS, or use 'greenroom serve'."
        )
    configure_logs(settings.log_level, settings.log_format)
    # Python takes a file of the same size and the same second for the one that it has compiled.
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    run_server(settings, make_server, browser=browser)


@app.command()
def check(config: ConfigOption = None) -> None:
    """Validate the configuration, import every graph and call every factory."""
    settings = Settings.read(config=config)
    configuration = read_configuration(settings.config)
    note([*configuration.warnings, *without_effect(os.environ, configuration.env)])
    note(refusals_of(settings.config))
    configuration.webhooks.filled({**os.environ, **configuration.env})
    with GraphCheck(settings.config, loud=True, factories=True, auth=settings.auth) as graph_check:
        with err.status("Importing the graphs ..."):
            reports = graph_check.finish()
    out.print(_table(configuration, reports))
    problems = [report.problem for report in reports if report.problem is not None]
    for problem in problems:
        complain(problem)
    if problems:
        raise typer.Exit(1)


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where; '.' is this folder.")],
    template: Annotated[
        Template, typer.Option(help="Which example its graph begins as.")
    ] = Template.CHAT,
) -> None:
    """Make a small project, which needs no key to be served. Overwrites nothing."""
    files = project_files(folder.absolute().name, template)
    write_files(folder, files)
    _next(folder, files, "greenroom check", "greenroom serve")


@app.command()
def examples(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Where. [examples]", show_default=False)
    ] = Path("examples"),
) -> None:
    """Copy the examples, with their langgraph.json. Overwrites nothing."""
    files = example_files()
    write_files(folder, files)
    _next(folder, files, "greenroom serve")


@app.command()
def stop(data_dir: DataDirOption = None) -> None:
    """End the server that runs in a data directory."""
    settings = Settings.read(data_dir=data_dir)
    owner = datadir.stop(settings.data_dir, settings.drain_s + STOP_MARGIN_S)
    if owner is None:
        out.print(f"No server runs in {settings.data_dir}.")
    else:
        out.print(f"The server {owner.url} (process {owner.pid}) has ended.")


keys = typer.Typer(
    help="API keys for 'greenroom.auth:api_keys'.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(keys, name="keys")


@keys.command("create")
def create_key(
    owner: Annotated[str, typer.Argument(help="Whose key it is: the identity of its user.")],
    admin: Annotated[
        bool, typer.Option("--admin", help="Its user reaches everything, of all users.")
    ] = False,
    only_print: Annotated[
        bool,
        typer.Option(
            "--print", help="Store nothing; print the entry for GREENROOM_API_KEYS as well."
        ),
    ] = False,
    data_dir: DataDirOption = None,
) -> None:
    """Make a key and show it once; the server, running or not, knows it at once."""
    from greenroom.auth import key_file

    if not owner.isprintable() or not owner.strip():
        raise ConfigurationError("The owner of a key must be a name of printable characters.")
    key, entry = key_file.new_key(owner, ("admin",) if admin else ())
    if only_print:
        out.print(f"GREENROOM_API_KEYS={key_file.written(entry)}", markup=False, soft_wrap=True)
    else:
        key_file.add(Settings.read(data_dir=data_dir).data_dir, entry)
    out.print(key, markup=False, soft_wrap=True)
    note(["This is the key. It is not stored and cannot be shown again."])


@keys.command("list")
def list_keys(data_dir: DataDirOption = None) -> None:
    """Show ids, owners and permissions of the keys, and no key."""
    from greenroom.auth import key_file

    found = key_file.read(Settings.read(data_dir=data_dir).data_dir).by_id.values()
    table = Table("id", "owner", "permissions", "created", box=None, pad_edge=False)
    for key in found:
        table.add_row(key.key_id, escape(key.owner), ", ".join(key.permissions), key.created_at)
    out.print(table)


@keys.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="The id of the key: its part after 'gr_'.")],
    data_dir: DataDirOption = None,
) -> None:
    """Delete a key. Requests with it are refused from now on; streams that are open go on."""
    from greenroom.auth import key_file

    folder = Settings.read(data_dir=data_dir).data_dir
    removed = key_file.remove(folder, key_id)
    if removed is None:
        raise ConfigurationError(
            f"There is no key {key_id!r} in {folder}; 'greenroom keys list' shows the ids."
        )
    out.print(f"The key {key_id} of {removed.owner} is revoked.", markup=False)


@app.command("version")
def show_versions() -> None:
    """Show the versions of Greenroom and of its main dependencies."""
    for package in ("greenroom", "ray", "langgraph", "langgraph-checkpoint-postgres"):
        out.print(f"{package} {version_of(package)}", markup=False)
    out.print(f"python {sys.version.split()[0]}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Executes a command line; always ends in SystemExit."""
    try:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            # What a command starts is ended by it (`greenroom.entry` let the signal kill).
            signal.signal(signal.SIGINT, signal.default_int_handler)
        app(args=arguments)
    except GreenroomError as error:
        complain(str(error))
        sys.exit(1)
    except OSError as error:
        # The machine lacks something: processes, memory, space on a disk.
        log.debug("The command could not go on.", exc_info=True)
        complain(f"The operating system refused something: {error}.")
        sys.exit(1)
    except Stopped:
        sys.exit(0)


def make_server(
    settings: Settings, configuration: Configuration, faults: Faults = NO_FAULTS
) -> RunningServer:
    from actors.common.garbage import without_collections
    from actors.forking.server import OPTIONAL_OF_SERVE, hidden
    from actors.server.early import Early

    early = Early(settings, configuration)
    try:
        with without_collections(), hidden(OPTIONAL_OF_SERVE):  # this process answers nobody
            from actors.server.server import Server  # imports ray, whose environment is set by now
    except BaseException:  # also Ctrl-C
        early.stop()
        raise
    # Serve says on the terminal what our own steps say already, with another look.
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    return Server(settings, configuration, early, faults=faults)


def _next(folder: Path, files: Mapping[str, str], *commands: str) -> None:
    """Says what was written and what to type now."""
    out.print(f"{folder} has {len(files)} new files; README.md says what they are.", markup=False)
    out.print("\nNext:\n")
    there = () if folder.absolute() == Path.cwd() else (f"cd {shlex.quote(str(folder))}",)
    for command in (*there, *commands):
        out.print(f"  {command}", markup=False)
    out.print()


def _table(configuration: Configuration, reports: Sequence[GraphReport]) -> Table:
    table = Table("graph", "kind", "placement", "nodes", box=None, pad_edge=False)
    found = {report.graph_id: report for report in reports}
    for graph_id, spec in configuration.graphs.items():
        report = found.get(graph_id, GraphReport(graph_id=graph_id, kind="not reached"))
        kind = "[red]broken[/red]" if report.problem else report.kind
        nodes = ", ".join(report.nodes)
        note(report.warnings)
        table.add_row(escape(graph_id), kind, escape(placement(spec.placement)), escape(nodes))
    return table


def placement(spec: PlacementSpec) -> str:
    """Describes a placement in a few words: an actor's resources, and the runs that share it."""
    parts = [f"{spec.num_cpus:g} CPU"]
    if spec.num_gpus:
        parts.append(f"{spec.num_gpus:g} GPU")
    if spec.memory_mib:
        parts.append(f"{spec.memory_mib} MiB")
    parts += [f"{amount:g} {name}" for name, amount in spec.resources.items()]
    if spec.runs_per_actor > 1:
        parts.append(f"{spec.runs_per_actor} runs an actor")
    if spec.overflow:
        parts.append(f"{spec.overflow} more in a burst")
    return ", ".join(parts)
