"""What can be found wrong before anything is started, each as one sentence that says what to do.

User code is imported in a process of its own: it may print, block, exit or crash the interpreter,
and a server that is starting must survive all of that to say which graph it was. That process is
started first and asked later, so that importing LangGraph does not lengthen the start.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from greenroom.core.errors import ConfigurationError, GreenroomError
from greenroom.graphs.configuration import Configuration, read_configuration


def check_port(host: str, port: int) -> None:
    """Raises ConfigurationError when the server could not listen there."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # Connections of the last server that are still closing do not make a port taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except socket.gaierror:
        raise ConfigurationError(
            f"{host!r} is no address of this machine; name one with --host."
        ) from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigurationError(
                f"Port {port} of {host} is in use; choose another, for example --port {port + 1}."
            ) from None
        raise ConfigurationError(
            f"The server cannot listen on {host}:{port} ({error.strerror});"
            " choose another --host or --port."
        ) from None


def check_database(url: str) -> None:
    """Raises ConfigurationError or DatabaseUnavailable when the database cannot be used."""
    from greenroom.persistence import database  # only whoever brings one pays for the import

    try:
        asyncio.run(database.check(url))
    except GreenroomError as error:
        raise type(error)(
            f"{error} Check --database-url (or GREENROOM_DATABASE_URL), or leave it out to use an"
            " embedded database."
        ) from None


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphReport:
    """What importing one graph has shown.

    Attributes:
        kind: ``graph``, or ``factory`` for a function that makes one for each run.
        nodes: names of its nodes; empty for a factory, which is not called here.
        chats: its state has ``messages``, so one can talk to it.
        warnings: sentences about what in it has no effect here.
        problem: why it cannot be used, or None.
    """

    graph_id: str
    kind: str = ""
    nodes: tuple[str, ...] = ()
    chats: bool = False
    warnings: tuple[str, ...] = ()
    problem: str | None = None


class GraphCheck:
    """Imports every graph of a configuration file in a process of its own.

    Args:
        path: the configuration file.
        loud: pass on what the graphs' modules print; else it is thrown away.
    """

    def __init__(self, path: Path, *, loud: bool = False) -> None:
        self._process = subprocess.Popen(
            # -P: without the working directory, whose files could hide the standard library.
            [sys.executable, "-P", "-m", "greenroom.checks", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if loud else subprocess.DEVNULL,
            # Ctrl-C is for the server; it ends this process itself.
            start_new_session=True,
        )
        self._reports: list[GraphReport] | None = None
        self._lines: list[bytes] = []
        # Read beside the process: a pipe that is full would stop it.
        self._reader = threading.Thread(target=self._read, name="graph-check", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def finish(self) -> list[GraphReport]:
        """Waits, and returns one report a graph, in the order of the file."""
        self._reader.join()
        status = self._process.wait()
        return self._understand(status)

    def refuse_broken(self, *, wait: bool) -> list[GraphReport]:
        """The reports (none yet, if it neither waits nor is done), or an error for the first bad.

        Raises:
            ConfigurationError: a graph cannot be used; names graph, file and reason.
        """
        if not wait and self._reader.is_alive():
            return []
        reports = self.finish()
        for report in reports:
            if report.problem is not None:
                raise ConfigurationError(report.problem)
        return reports

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            self._lines.extend(pipe)

    def _understand(self, status: int) -> list[GraphReport]:
        messages: list[dict[str, Any]] = [json.loads(line) for line in self._lines]
        reports = [_from_json(message) for message in messages if "kind" in message]
        if status != 0:
            # Each graph is announced before it is imported, so the last one named is the one.
            last = str(messages[-1]["graph_id"]) if messages else "?"
            how = f"signal {-status}" if status < 0 else f"exit code {status}"
            reports = [report for report in reports if report.graph_id != last]
            reports.append(
                GraphReport(
                    graph_id=last,
                    problem=f"Graph {last!r} ended the interpreter while it was imported ({how});"
                    " 'greenroom check' shows what it printed.",
                )
            )
        return reports


def _from_json(message: dict[str, Any]) -> GraphReport:
    tuples = {name: tuple(message[name]) for name in ("nodes", "warnings")}
    return GraphReport(**{**message, **tuples})


def _import_graphs(path: Path) -> None:
    """The other side of `GraphCheck`: one line of JSON before and after each graph."""
    # Modules print; the pipe is for reports only, so what they print goes to standard error.
    reports = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    configuration = read_configuration(path)
    os.environ.update(configuration.env)
    for graph_id in configuration.graphs:
        print(json.dumps({"graph_id": graph_id}), file=reports)
        print(json.dumps(asdict(_report(configuration, graph_id))), file=reports)
    reports.flush()
    # Threads that a module has started must not keep this process.
    os._exit(0)


def _report(configuration: Configuration, graph_id: str) -> GraphReport:
    from greenroom.graphs.loading import load_graph  # imports LangGraph, which the server need not

    try:
        loaded = load_graph(configuration, graph_id)
    except ConfigurationError as error:
        return GraphReport(graph_id=graph_id, problem=str(error))
    if loaded.graph is None:
        return GraphReport(graph_id=graph_id, kind="factory", warnings=loaded.warnings)
    return GraphReport(
        graph_id=graph_id,
        kind="graph",
        nodes=tuple(name for name in loaded.graph.nodes if name != "__start__"),
        chats="messages" in loaded.graph.channels,
        warnings=loaded.warnings,
    )


if __name__ == "__main__":
    _import_graphs(Path(sys.argv[1]))
