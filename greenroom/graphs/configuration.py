"""Parses `langgraph.json`: the graphs and their placements.

Gateway and registry need the names and the placements but never a graph, so this module imports
neither LangGraph nor user code; `greenroom.graphs.loading` does.

A key that LangGraph knows and Greenroom ignores becomes a sentence in `Configuration.warnings`,
which the command line shows. An unknown key in Greenroom's own section is an error that names the
key and the allowed ones.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from greenroom.core.access import AuthSpec
from greenroom.core.edge_rules import HttpRules
from greenroom.core.errors import ConfigurationError
from greenroom.core.keeping import Keeping
from greenroom.core.store import StoreSpec
from greenroom.core.threads import ThreadTtl
from greenroom.core.webhook_rules import WebhookRules
from greenroom.graphs.auth_section import parse_auth, target_of
from greenroom.graphs.dependencies import import_paths_of
from greenroom.graphs.encryption_section import EncryptionTarget, parse_encryption
from greenroom.graphs.graph_entries import GraphSpec, parse_graph
from greenroom.graphs.http_section import parse_http
from greenroom.graphs.json_values import an_object, listed, refuse_unknown
from greenroom.graphs.placements import PlacementSpec, parse_placement
from greenroom.graphs.serde import keeping_of
from greenroom.graphs.store_section import parse_store
from greenroom.graphs.thread_ttls import ttl_of
from greenroom.graphs.variables import DEFAULTS, defaults_of, environment_of
from greenroom.graphs.webhooks_section import parse_webhooks

FILE_NAME = "langgraph.json"
RESERVED_APPLICATION = "greenroom"
"""The name of the server's own Serve application."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """A parsed `langgraph.json`.

    Attributes:
        root: the directory that relative paths start from.
        graphs: the graphs by id, in the order of the file.
        env: environment variables for the graphs' processes.
        import_paths: directories to put on ``sys.path``, from ``dependencies``.
        default_graph: the graph of requests that name no assistant, or None.
        applications: Ray Serve applications to deploy beside the server, ``package.module:app`` by
            name.
        shipped_graphs: notebooks may ship graphs by value (`greenroom.notebook`).
        store: the store's index, and times to live of its items.
        thread_ttl: the time to live of threads.
        keeping: which values of states are kept.
        http: the rules of the HTTP edge.
        webhooks: which URLs are called, and with which headers.
        auth: who is let in; None: everybody, and everybody reaches everything.
        encryption: the handlers that encrypt state; None: there are none.
        warnings: sentences about keys of the file that have no effect.
    """

    root: Path
    graphs: Mapping[str, GraphSpec]
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)  # it has keys
    import_paths: tuple[Path, ...] = ()
    default_graph: str | None = None
    applications: Mapping[str, str] = field(default_factory=dict[str, str])
    shipped_graphs: bool = False
    store: StoreSpec = field(default_factory=StoreSpec)
    thread_ttl: ThreadTtl = field(default_factory=ThreadTtl)
    keeping: Keeping = field(default_factory=Keeping)
    http: HttpRules = field(default_factory=HttpRules)
    webhooks: WebhookRules = field(default_factory=WebhookRules)
    auth: AuthSpec | None = None
    encryption: EncryptionTarget | None = None
    warnings: tuple[str, ...] = ()

    @property
    def env_of_graphs(self) -> dict[str, str]:
        """The variables of ``env`` for processes of graphs: not those of webhooks' headers."""
        return {key: text for key, text in self.env.items() if key not in self.webhooks.variables}

    @property
    def problems(self) -> dict[str, str]:
        """Why graphs cannot be loaded, by graph."""
        return {
            name: spec.problem for name, spec in self.graphs.items() if spec.problem is not None
        }

    def with_auth(self, target: str | None) -> Configuration:
        """Returns the configuration with the ``auth`` of a setting, which overrides the file's.

        Raises:
            ConfigurationError: the setting names no target; custom routes are to be authenticated,
                and there is no ``auth``.
        """
        if target is not None:
            target = target_of(target, "GREENROOM_AUTH")
            return replace(self, auth=replace(self.auth or AuthSpec(target=target), target=target))
        if self.http.custom_route_auth and self.auth is None:
            raise ConfigurationError(
                "'http.enable_custom_route_auth' needs 'auth', which this server does not have: set"
                " it, or leave the key out."
            )
        return self

    def with_problems(self, problems: Mapping[str, str]) -> Configuration:
        """Returns the configuration with graphs that are known to be broken."""
        graphs = {
            name: replace(spec, problem=problems[name]) if name in problems else spec
            for name, spec in self.graphs.items()
        }
        return replace(self, graphs=graphs)

    def graph(self, graph_id: str) -> GraphSpec:
        """Returns the entry of a graph.

        Raises:
            ConfigurationError: the configuration has no graph with this name.
        """
        try:
            return self.graphs[graph_id]
        except KeyError:
            raise ConfigurationError(
                f"There is no graph {graph_id!r}; the configuration has "
                f"{listed(self.graphs)}. Add it under 'graphs' of {FILE_NAME}."
            ) from None


BUILD_ONLY = (
    "$schema",
    "python_version",
    "node_version",
    "api_version",
    "base_image",
    "image_distro",
    "dockerfile_lines",
    "docker_compose_file",
    "pip_config_file",
    "pip_installer",
    "keep_pkg_tools",
    "source",
    "ui_config",
)
"""Keys for `langgraph build`, which makes an image; Greenroom does not use them."""

NOT_HONOURED = {
    "ui": "'ui' is set, but Greenroom serves no UI components.",
}

HONOURED = (
    *("graphs", "dependencies", "env", "store", "checkpointer", "encryption"),
    *("auth", "http", "webhooks", "greenroom"),
)

CHECKPOINTER_NOT_HONOURED = {
    "path": "'checkpointer.path' is set, but Greenroom keeps checkpoints in its own PostgreSQL "
    "database: a custom checkpointer has no effect.",
}

OURS = ("graphs", "default_graph", "defaults", "applications", "shipped_graphs")


def read_configuration(path: Path) -> Configuration:
    """Reads a configuration file, or the `langgraph.json` of a directory.

    Raises:
        ConfigurationError: the file is missing or invalid.
    """
    file = path / FILE_NAME if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigurationError(
            f"There is no configuration at {file}. Name another file with --config, let"
            f" 'greenroom new DIR' make a project, or create a {FILE_NAME} with "
            '{"dependencies": ["."], "graphs": {"agent": "./agent.py:graph"}}.'
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The configuration {file} cannot be read: {error}") from None
    try:
        content: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigurationError(
            f"{file} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from None
    return parse_configuration(content, file.resolve().parent)


def parse_configuration(content: Any, root: Path) -> Configuration:
    """Makes a `Configuration` from the content of a `langgraph.json`.

    Args:
        content: the parsed JSON.
        root: the directory that relative paths in it start from.

    Raises:
        ConfigurationError: the content is invalid; the message names the key and the allowed
            values.
    """
    top = an_object(content, f"{FILE_NAME}")
    ours = an_object(top.get("greenroom", {}), "greenroom")
    refuse_unknown(ours, OURS, "greenroom")
    targets = an_object(top.get("graphs"), "graphs")
    shipped_graphs = ours.get("shipped_graphs", False)
    if not isinstance(shipped_graphs, bool):
        raise ConfigurationError("'greenroom.shipped_graphs' must be true or false.")
    if not targets and not shipped_graphs:
        raise ConfigurationError(
            f"'graphs' of {FILE_NAME} names no graph; "
            'add one, e.g. {"agent": "./agent.py:graph"}.'
        )

    placements = an_object(ours.get("graphs", {}), "greenroom.graphs")
    for name in placements:
        if name not in targets:
            raise ConfigurationError(
                f"'greenroom.graphs.{name}' is about a graph that does not exist; "
                f"'graphs' has {listed(targets)}."
            )
    defaults = parse_placement(ours.get("defaults", {}), PlacementSpec(), "greenroom.defaults")
    env, env_warnings = environment_of(top.get("env", {}), root)
    configs = defaults_of(env)
    graphs = {
        name: parse_graph(
            name,
            value,
            parse_placement(placements.get(name, {}), defaults, f"greenroom.graphs.{name}"),
            configs.get(name, {}),
        )
        for name, value in targets.items()
    }

    store, store_warnings = parse_store(top.get("store"))
    http, http_warnings = parse_http(top.get("http"))
    default_graph = ours.get("default_graph")
    if default_graph is not None and default_graph not in graphs:
        raise ConfigurationError(
            f"'greenroom.default_graph' is {default_graph!r}; it must be one of {listed(graphs)}."
        )
    checkpointer = an_object(top.get("checkpointer") or {}, "checkpointer")
    thread_ttl, ttl_warnings = ttl_of(checkpointer)
    auth, auth_notes = parse_auth(top.get("auth"))
    import_paths, dependency_warnings = import_paths_of(top.get("dependencies", []), root)
    return Configuration(
        root=root,
        graphs=graphs,
        env=env,
        import_paths=import_paths,
        applications=_applications(ours.get("applications", {})),
        default_graph=default_graph if default_graph or len(graphs) != 1 else next(iter(graphs)),
        shipped_graphs=shipped_graphs,
        store=store,
        thread_ttl=thread_ttl,
        keeping=keeping_of(checkpointer),
        auth=auth,
        http=http,
        webhooks=parse_webhooks(top.get("webhooks")),
        encryption=parse_encryption(top.get("encryption")),
        warnings=(
            *_warnings(top),
            *auth_notes,
            *store_warnings,
            *http_warnings,
            *ttl_warnings,
            *dependency_warnings,
            *env_warnings,
            *(
                f"{DEFAULTS} has a graph {name!r}, which 'graphs' does not have."
                for name in configs
                if name not in graphs
            ),
        ),
    )


def _warnings(top: Mapping[str, Any]) -> list[str]:
    known = {*HONOURED, *BUILD_ONLY, *NOT_HONOURED}
    checkpointer = an_object(top.get("checkpointer") or {}, "checkpointer")
    honoured = ("serde", "ttl", *CHECKPOINTER_NOT_HONOURED)
    strange = [key for key in checkpointer if key not in honoured]
    found = [
        *(sentence for key, sentence in NOT_HONOURED.items() if top.get(key)),
        *(sentence for key, sentence in CHECKPOINTER_NOT_HONOURED.items() if checkpointer.get(key)),
        *(f"'checkpointer.{key}' is unknown to Greenroom, and has no effect." for key in strange),
    ]
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    if top.get("python_version") not in (None, running):
        found.append(
            f"'python_version' asks for {top['python_version']}, but this is Python {running}."
        )
    unknown = [key for key in top if key not in known]
    if unknown:
        found.append(
            f"{FILE_NAME} has keys that Greenroom does not know, and they have no effect: "
            f"{listed(unknown)}."
        )
    return found


def _applications(value: Any) -> dict[str, str]:
    found = an_object(value, "greenroom.applications")
    for name, target in found.items():
        if name == RESERVED_APPLICATION:
            raise ConfigurationError(
                f"'greenroom.applications.{name}' takes the server's own name; choose another."
            )
        if not isinstance(target, str) or not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", target):
            raise ConfigurationError(
                f"'greenroom.applications.{name}' is {target!r}; it must be "
                "'package.module:application', importable from 'dependencies'."
            )
    return found
