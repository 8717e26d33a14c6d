"""Runs a server in the foreground: starts it, shows its progress, and ends it on request.

Everything that was started is ended, also after a failure. The caller imports `actors` after Ray's
environment is set, because Ray reads the environment during its import.
"""

from __future__ import annotations

import json
import logging
import os
import time
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

from greenroom import datadir
from greenroom.checks import check_database, check_open_files, check_port
from greenroom.core.edge_rules import HttpRules
from greenroom.core.errors import GreenroomError
from greenroom.environment import (
    HAPROXY_CONNECTIONS,
    SERVER_SECRETS,
    apply_ray_environment,
    files_for,
    forget_secrets,
    haproxy_connections,
    make_haproxy_dir,
    remove_haproxy_dir,
    terminal_socket,
)
from greenroom.exposure import refuse_exposure
from greenroom.graph_check import GraphCheck, GraphReport
from greenroom.graphs.configuration import Configuration, read_configuration
from greenroom.machine import raise_open_files
from greenroom.platform_variables import without_effect
from greenroom.settings import Settings
from greenroom.signals import ending_signals
from greenroom.terminal import Progress, errors_of, note, out, steps

log = logging.getLogger(__name__)

ENOUGH_CONNECTIONS = 4096
"""The number of connections below which the start says how many there are."""
ORPHANS_PATIENCE_S = 15.0
"""The time in which the processes of a killed server notice its death and end."""


class RunningServer(Protocol):
    """The interface of `actors.server.server.Server` for the command line."""

    def start(self, progress: Progress) -> None: ...

    def stop(self) -> None: ...

    def renew(self) -> Sequence[str]: ...

    def redeploy(self, configuration: Configuration) -> None: ...


def run_server(
    settings: Settings,
    make_server: Callable[[Settings, Configuration], RunningServer],
    *,
    browser: bool = False,
) -> None:
    """Starts a server, shows its progress, and ends it when a signal asks for that.

    Args:
        settings: the server's settings.
        make_server: makes the server; called after Ray's environment is set.
        browser: opens its page in the user's browser.

    Raises:
        GreenroomError: the server cannot start; the message is one sentence. Nothing is left
            running.
    """
    forget_secrets(SERVER_SECRETS)
    with ending_signals(settings.data_dir) as signals, steps() as progress:
        files = raise_open_files()
        check_open_files(files)
        progress("Reading the configuration")
        configuration = read_configuration(settings.config).with_auth(settings.auth)
        refuse_exposure(settings, authenticates=configuration.auth is not None)
        note([*configuration.warnings, *exceeded(configuration, settings.registry_shards)])
        note(without_effect(os.environ, configuration.env))
        if settings.haproxy:
            note(few_connections(files))
        with (
            datadir.claim(settings.data_dir, settings.url) as killed,
            GraphCheck(
                settings.config, tolerant=settings.allow_broken, auth=settings.auth
            ) as graph_check,
        ):
            progress(f"Checking that port {settings.port} is free")
            _free_port(settings, ORPHANS_PATIENCE_S if killed is not None else 0.0)
            if settings.database_url is not None:
                progress("Checking the database")
                check_database(settings.database_url)

            def step(text: str) -> None:
                signals.check()
                graph_check.refuse_broken(wait=False)
                progress(text)

            if settings.allow_broken:
                progress("Importing the graphs")
                configuration = configuration.with_problems(graph_check.problems())
                note(
                    f"{problem} Its runs will fail." for problem in configuration.problems.values()
                )

            progress("Loading Ray")
            make_haproxy_dir(settings.data_dir)
            apply_ray_environment(settings)
            server = make_server(settings, configuration)
            shown = ExitStack()
            try:
                try:
                    shown.enter_context(errors_of(terminal_socket(settings.data_dir)))
                    server.start(step)
                except Exception as error:
                    # Interrupted code may raise another exception than `Stopped`.
                    signals.check()
                    # A graph that does not import is the cause, whatever error a part has raised.
                    graph_check.refuse_broken(wait=True)
                    if isinstance(error, GreenroomError):
                        raise
                    # Ray, Serve and the operating system raise many types; one sentence shows the
                    # error here, and the level "debug" shows all of it.
                    log.debug("The server could not start.", exc_info=True)
                    raise GreenroomError(
                        f"The server could not start: {_reason(error)}"
                        " ('--log-level debug' shows where)."
                    ) from error
                reports = graph_check.refuse_broken(wait=True)
                progress("")
                note(sentence for report in reports for sentence in report.warnings)
                _banner(settings, configuration, reports)
                if settings.reload:
                    # Imported late: only `greenroom dev` needs it.
                    from greenroom.reloading import reloading

                    shown.enter_context(reloading(settings, configuration, server))
                if browser:
                    webbrowser.open(page_of(settings, configuration.http))
                signals.wait()
            finally:
                progress("Stopping")
                try:
                    server.stop()
                finally:
                    shown.close()
                    datadir.end_orphans(settings.data_dir)
                    remove_haproxy_dir(settings.data_dir)
                    progress("")


def _free_port(settings: Settings, patience_s: float) -> None:
    """Refuses a port that is in use; after a killed server it waits until the port is free."""
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


def _has_console(settings: Settings, rules: HttpRules) -> bool:
    return settings.console and "ui" not in rules.disabled


def page_of(settings: Settings, rules: HttpRules) -> str:
    """Returns the address of the page that a browser opens: the console, else the API's."""
    page = "console" if _has_console(settings, rules) else "docs"
    return f"{settings.url}{rules.mount_prefix}/{page}"


def _banner(
    settings: Settings, configuration: Configuration, reports: Sequence[GraphReport]
) -> None:
    out.print()
    out.print(f"  [bold]Greenroom {version_of('greenroom')}[/bold] serves {settings.url}")
    served = [name for name in configuration.graphs if name not in configuration.problems]
    out.print(f"  graphs  {', '.join(served)}", markup=False)
    if configuration.problems:
        out.print(f"  broken  {', '.join(configuration.problems)}", markup=False)
    rules = configuration.http
    if _has_console(settings, rules):
        out.print(f"  console {settings.url}{rules.mount_prefix}/console", markup=False)
    out.print(f"  docs    {settings.url}{rules.mount_prefix}/docs", markup=False)
    sound = [report for report in reports if report.problem is None]
    if sound:
        out.print("\n  Stream some tokens:\n")
        out.print(curl(settings.url, sound), markup=False)
    out.print("\n  Ctrl-C ends it.\n")


def curl(url: str, reports: Sequence[GraphReport]) -> str:
    """Returns a shell command that streams from the first chat graph, else the first graph."""
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


def exceeded(configuration: Configuration, shards: int) -> list[str]:
    """Returns a sentence for each graph that may have more actors than its placement allows."""
    return [
        f"Graph '{graph_id}' may have {shards} actors and not {graph.placement.max_actors}"
        f" (max_actors): each of the {shards} registries keeps actors of its own."
        for graph_id, graph in configuration.graphs.items()
        if 0 < graph.placement.max_actors < shards
    ]


def few_connections(files: int) -> list[str]:
    """A sentence if HAProxy can accept fewer connections than usual, because of open files."""
    connections = haproxy_connections(files)
    if connections >= ENOUGH_CONNECTIONS:
        return []
    return [
        f"HAProxy accepts {connections} connections at once, since a process may have {files} open"
        f" files here ('ulimit -n'); for {HAPROXY_CONNECTIONS} it takes"
        f" {files_for(HAPROXY_CONNECTIONS)}."
    ]


def version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"  # Greenroom itself, when it runs from a source tree


def _reason(error: BaseException) -> str:
    """The first line of an error, or of what it says is its cause, as errors of Ray's do.

    Those begin with the place where it was raised, which tells a user nothing.
    """
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        return _reason(cause)
    text = str(error).strip() or type(error).__name__
    return text.partition("\n")[0].rstrip(".")
