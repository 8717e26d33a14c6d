"""Imports every graph of a configuration, and calls factories, in a separate process.

User code may print, block, exit or crash the interpreter. A server that is starting must survive
all of that and name the graph. The process starts first and is asked later, so that the import of
LangGraph does not lengthen the start. If a graph ends the process, a second process checks the
remaining graphs.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self, cast

from greenroom.core.errors import ConfigurationError
from greenroom.graphs.configuration import Configuration, read_configuration
from greenroom.graphs.store_section import EMBED
from greenroom.late_imports import import_less

AUTH = "auth.path"
APP = "http.app"
ENCRYPTION = "encryption.path"
_SHARED = (AUTH, EMBED, APP, ENCRYPTION)
"""What all graphs share, by its name among the graphs of a check; its problem is the server's."""

FACTORY_S = 30.0
"""The time-out of one call of a factory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphReport:
    """The result of the check of one graph.

    Attributes:
        graph_id: the name of the graph.
        kind: ``graph``, or ``factory`` for a function that makes one for each run.
        nodes: the names of its nodes; empty for a factory that was not called.
        chats: whether its state has ``messages``, so that a user can talk to it.
        warnings: sentences about parts of the graph that have no effect here, or may fail.
        problem: the reason why the graph cannot be used, or None.
    """

    graph_id: str
    kind: str = ""
    nodes: tuple[str, ...] = ()
    chats: bool = False
    warnings: tuple[str, ...] = ()
    problem: str | None = None


class GraphCheck:
    """Checks the graphs of a configuration file in another process.

    Args:
        path: the configuration file.
        loud: pass on the output of the graphs' modules instead of dropping it.
        factories: call each factory once.
        tolerant: report a broken graph instead of refusing it, unless all of them are broken.
        auth: the setting `auth`, which overrides that of the configuration.
    """

    def __init__(
        self,
        path: Path,
        *,
        loud: bool = False,
        factories: bool = False,
        tolerant: bool = False,
        auth: str | None = None,
    ) -> None:
        self._path = path
        self._auth = auth
        self._tolerant = tolerant
        self._loud = loud
        self._factories = factories
        self._reports: list[GraphReport] = []
        self._shared: dict[str, GraphReport] = {}
        self._ending = threading.Lock()
        self._ended = False
        self._process = self._started([])
        # Read beside the process: a pipe that is full would stop it.
        self._reader = threading.Thread(target=self._read, name="graph-check", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._ending:
            self._ended = True
            self._process.kill()
        self._reader.join()
        assert self._process.stdin is not None
        self._process.stdin.close()

    def finish(self) -> list[GraphReport]:
        """Waits for the check; returns one report per graph, in the order of the file.

        Raises:
            ConfigurationError: what all graphs share is broken: ``auth``, the embedding of the
                store, ``http.app`` or ``encryption``.
        """
        self._reader.join()
        for report in self._shared.values():
            if report.problem is not None:
                raise ConfigurationError(report.problem)
        return self._reports

    def problems(self) -> dict[str, str]:
        """Waits for the check; returns the problem of each broken graph, by graph.

        Raises:
            ConfigurationError: the embedding is broken, or all graphs are; the message is the
                problem of the first one.
        """
        reports = self.finish()
        found = {each.graph_id: each.problem for each in reports if each.problem is not None}
        if found and len(found) == len(reports):
            raise ConfigurationError(next(iter(found.values())))
        return found

    def refuse_broken(self, *, wait: bool) -> list[GraphReport]:
        """Returns the reports; empty if the check is not done and the caller does not wait.

        Args:
            wait: wait for the check.

        Raises:
            ConfigurationError: a graph is broken; the message names graph, file and reason.
        """
        if not wait and self._reader.is_alive():
            return []
        problems = self.problems()
        if problems and not self._tolerant:
            raise ConfigurationError(next(iter(problems.values())))
        return self._reports

    def _started(self, done: Sequence[str]) -> subprocess.Popen[bytes]:
        order = {
            "path": str(self._path),
            "factory_s": FACTORY_S if self._factories else 0.0,
            "done": list(done),
            "auth": self._auth,
        }
        return subprocess.Popen(
            # -P: without the working directory, whose files could hide the standard library.
            [sys.executable, "-P", "-m", "greenroom.graph_check", json.dumps(order)],
            stdin=subprocess.PIPE,  # its end tells the process that this one has died
            stdout=subprocess.PIPE,
            stderr=None if self._loud else subprocess.DEVNULL,
            # Ctrl-C is for the server; it ends this process itself.
            start_new_session=True,
        )

    def _read(self) -> None:
        while True:
            assert self._process.stdout is not None
            announced = None
            with self._process.stdout as pipe:
                for line in pipe:
                    message: dict[str, Any] = json.loads(line)
                    announced = str(message["graph_id"])
                    if "kind" in message:
                        self._keep(_from_json(message))
                        announced = None
            status = self._process.wait()
            if status == 0:
                return
            assert self._process.stdin is not None
            self._process.stdin.close()
            # Each graph is announced before it is imported, so the last one announced is the one.
            self._keep(_ended(announced or "?", status))
            with self._ending:
                if self._ended or announced is None:
                    return
                done = [report.graph_id for report in self._reports]
                self._process = self._started([*done, *self._shared])

    def _keep(self, report: GraphReport) -> None:
        if report.graph_id in _SHARED:
            self._shared[report.graph_id] = report
        else:
            self._reports.append(report)


def _ended(graph_id: str, status: int) -> GraphReport:
    how = f"signal {-status}" if status < 0 else f"exit code {status}"
    if graph_id in _SHARED:
        return GraphReport(
            graph_id=graph_id,
            problem=f"'{graph_id}' ended the interpreter while it was imported ({how});"
            " 'greenroom check' shows what it printed.",
        )
    return GraphReport(
        graph_id=graph_id,
        problem=f"Graph {graph_id!r} ended the interpreter while it was imported, or its factory"
        f" called ({how}); 'greenroom check' shows what it printed.",
    )


def _from_json(message: dict[str, Any]) -> GraphReport:
    tuples = {name: tuple(message[name]) for name in ("nodes", "warnings")}
    return GraphReport(**{**message, **tuples})


# --- the other side -------------------------------------------------------------------------------


def _check(order: dict[str, Any]) -> None:
    """The child process: writes one line of JSON before and after each graph."""
    gc.disable()  # it imports and ends
    import_less()
    threading.Thread(target=_end_with, args=(os.dup(0),), name="parent", daemon=True).start()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # Modules print; the pipe is for reports only, so what they print goes to standard error.
    reports = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    configuration = read_configuration(Path(order["path"])).with_auth(order["auth"])
    os.environ.update(configuration.env)
    for name, probe in _probes(configuration).items():
        if name not in order["done"]:
            print(json.dumps({"graph_id": name}), file=reports)
            print(json.dumps(asdict(_probed(name, probe))), file=reports)
    for graph_id in configuration.graphs:
        if graph_id not in order["done"]:
            print(json.dumps({"graph_id": graph_id}), file=reports)
            report = _report(configuration, graph_id, factory_s=order["factory_s"])
            print(json.dumps(asdict(report)), file=reports)
    reports.flush()
    # Threads that a module has started must not keep this process.
    os._exit(0)


def _end_with(parent: int) -> None:
    """Ends this process when the other end of a pipe closes, i.e. when the parent has ended."""
    os.read(parent, 1)
    os._exit(1)


def _report(configuration: Configuration, graph_id: str, *, factory_s: float) -> GraphReport:
    import actors  # as below
    from greenroom.graphs.loading import load_graph  # imports LangGraph, which the server need not

    del actors
    try:
        loaded = load_graph(configuration, graph_id)
    except ConfigurationError as error:
        return GraphReport(graph_id=graph_id, problem=str(error))
    if loaded.spec.problem is not None:
        return GraphReport(graph_id=graph_id, problem=loaded.spec.problem)
    if loaded.graph is not None:
        return _of_graph(GraphReport(graph_id=graph_id, kind="graph"), loaded)
    report = GraphReport(graph_id=graph_id, kind="factory", warnings=loaded.warnings)
    return _called(report, loaded, configuration, factory_s) if factory_s else report


def _probes(configuration: Configuration) -> dict[str, Callable[[], Any]]:
    """Returns what loads each part of the configuration that all graphs share, by its key."""

    def auth() -> None:
        from greenroom.auth.authenticator import HandlerAuthenticator
        from greenroom.auth.calls import Inline
        from greenroom.auth.loading import load_auth

        spec = configuration.auth
        assert spec is not None
        HandlerAuthenticator(load_auth(configuration, spec), spec, Inline())

    def embedding() -> None:
        from greenroom.graphs.embedding import load_embedder  # imports LangGraph, as below

        load_embedder(configuration)

    def app() -> None:
        from greenroom.graphs.custom_app import load_app

        load_app(configuration, str(configuration.http.app))

    def encryption() -> None:
        from greenroom.graphs.encryption import load_sealing

        load_sealing(configuration, None)

    named = {
        AUTH: (configuration.auth, auth),
        EMBED: (configuration.store.index, embedding),
        APP: (configuration.http.app, app),
        ENCRYPTION: (configuration.encryption, encryption),
    }
    return {name: probe for name, (said, probe) in named.items() if said is not None}


def _probed(name: str, probe: Callable[[], Any]) -> GraphReport:
    import actors  # its processes have that name, so a project's own package is not found here too

    del actors
    try:
        probe()
    except ConfigurationError as error:
        return GraphReport(graph_id=name, problem=str(error))
    return GraphReport(graph_id=name, kind="shared")


def _of_graph(report: GraphReport, loaded: Any, graph: Any = None) -> GraphReport:
    graph = graph or loaded.graph
    return replace(
        report,
        nodes=tuple(name for name in graph.nodes if name != "__start__"),
        chats="messages" in graph.channels,
        warnings=loaded.warnings,
    )


def _called(
    report: GraphReport, loaded: Any, configuration: Configuration, within_s: float
) -> GraphReport:
    """Calls a factory as for a question about its graph, with the config of its assistant."""
    from langgraph.store.memory import InMemoryStore

    from greenroom.graphs.import_errors import factory_failed, is_missing_code

    spec = configuration.graph(report.graph_id)
    config = {
        **{key: value for key, value in spec.defaults.items() if key != "context"},
        "configurable": {
            **spec.defaults.get("configurable", {}),
            "graph_id": spec.graph_id,
            "thread_id": str(uuid.uuid4()),
        },
    }
    found: list[GraphReport] = []

    async def make() -> None:
        async with loaded.open(
            config, checkpointer=None, store=InMemoryStore(), access="assistants.read"
        ) as graph:
            found.append(_of_graph(report, loaded, graph))

    def attempt() -> None:
        try:
            asyncio.run(make())
        except ConfigurationError as error:
            found.append(replace(report, problem=str(error)))
        except BaseException as error:  # noqa: BLE001 - it is the user's code that runs
            failed = str(factory_failed(spec, configuration.root, error))
            if is_missing_code(error):
                found.append(replace(report, problem=failed))
            else:
                found.append(replace(report, warnings=(*report.warnings, f"{failed} {_MAYBE}")))

    # In a thread: a factory that blocks must not keep the others.
    thread = threading.Thread(target=attempt, name=f"factory {spec.graph_id}", daemon=True)
    thread.start()
    thread.join(within_s)
    if found:
        return found[0]
    late = f"Graph {spec.graph_id!r}: its factory {spec.target} takes more than {within_s:g} s."
    return replace(report, warnings=(*report.warnings, late))


_MAYBE = "It was called without a run; a run may give it what it needs."


if __name__ == "__main__":
    _check(cast("dict[str, Any]", json.loads(sys.argv[1])))
