"""`langgraph.json`: which graphs there are, and where each of them may run.

Only the parsing is here. Gateway and registry need the names and the placements but never a graph,
so this module imports neither LangGraph nor user code; `greenroom.graphs.loading` does.

A key that LangGraph knows and Greenroom does not honour is never dropped in silence: it becomes a
sentence in `Configuration.warnings`, which whoever starts the server shows. In our own section
nothing is forgiven: an unknown key there is an error that names the key and what is allowed.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from greenroom.core.errors import ConfigurationError

FILE_NAME = "langgraph.json"
RESERVED_APPLICATION = "greenroom"
"""The name of the Serve application that the server itself is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlacementSpec:
    """Where and how the runs of a graph are executed.

    Attributes:
        runs_per_actor: how many runs share one process; 1 isolates each.
        warm: idle actors to keep ready.
        max_actors: upper bound of actors with this placement; 0 leaves it to the server's settings.
        num_cpus: CPUs that Ray reserves per actor.
        num_gpus: GPUs that Ray reserves per actor.
        memory_mib: memory that Ray reserves per actor, and the resident memory at which it is
            ended; 0 means neither.
        resources: custom Ray resources per actor.
        accelerator_type: of the node, as Ray names it (``A100``, ``L4``); empty for any.
        labels: what the node's labels must say, as Ray's label selectors have it: a value,
            ``!value``, ``in(a, b)``.
        max_runs_per_actor_life: runs after which an actor is replaced; 0 means never.
        timeout_s: seconds after which a run ends with ``timeout``; 0 means never.
        max_attempts: how often a run is started when its process dies.
    """

    runs_per_actor: int = 1
    warm: int = 1
    max_actors: int = 0
    num_cpus: float = 0.5
    num_gpus: float = 0.0
    memory_mib: int = 0
    resources: Mapping[str, float] = field(default_factory=dict[str, float])
    accelerator_type: str = ""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    max_runs_per_actor_life: int = 0
    timeout_s: float = 3600.0
    max_attempts: int = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphSpec:
    """One entry of ``graphs``.

    Attributes:
        graph_id: its name, e.g. ``agent``.
        target: ``./file.py:attribute`` or ``package.module:attribute``.
        description: what the configuration says about it.
        placement: where its runs are executed.
    """

    graph_id: str
    target: str
    description: str | None = None
    placement: PlacementSpec = field(default_factory=PlacementSpec)

    @property
    def source(self) -> str:
        """The file or module of the target."""
        return self.target.rpartition(":")[0]

    @property
    def attribute(self) -> str:
        """The name of the graph within its file or module."""
        return self.target.rpartition(":")[2]


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """A parsed `langgraph.json`.

    Attributes:
        root: the directory that relative paths start from.
        graphs: by graph id, in the order of the file.
        env: environment variables for the graphs' processes.
        import_paths: directories to put on ``sys.path``, from ``dependencies``.
        default_graph: the graph of requests that name no assistant, or None.
        applications: Ray Serve applications to deploy beside the server, ``package.module:app`` by
            name.
        shipped_graphs: graphs may also come by value, from notebooks (`greenroom.notebook`).
        warnings: sentences about what is in the file and has no effect.
    """

    root: Path
    graphs: Mapping[str, GraphSpec]
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    import_paths: tuple[Path, ...] = ()
    default_graph: str | None = None
    applications: Mapping[str, str] = field(default_factory=dict[str, str])
    shipped_graphs: bool = False
    warnings: tuple[str, ...] = ()

    def graph(self, graph_id: str) -> GraphSpec:
        """The entry of a graph.

        Raises:
            ConfigurationError: there is none with this name.
        """
        try:
            return self.graphs[graph_id]
        except KeyError:
            raise ConfigurationError(
                f"There is no graph {graph_id!r}; the configuration has "
                f"{_listed(self.graphs)}. Add it under 'graphs' of {FILE_NAME}."
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
"""They tell `langgraph build` how to make an image; nothing that we do depends on them."""

NOT_HONOURED = {
    "auth": "'auth' is set, but Greenroom does not authenticate yet: EVERY request is let in. "
    "Put a proxy that authenticates in front, or keep the server on 127.0.0.1.",
    "http": "'http' is set, but Greenroom does not honour it yet: custom routes, CORS rules, "
    "disabled routes and mount prefixes have no effect.",
    "store": "'store' is set, but Greenroom does not honour it yet: there is no index for semantic "
    "search, and items do not expire.",
    "checkpointer": "'checkpointer' is set, but Greenroom keeps checkpoints in its own PostgreSQL "
    "database: a custom checkpointer, its serializer and 'ttl' have no effect.",
    "webhooks": "'webhooks' is set, but Greenroom does not honour it yet: its own rules decide "
    "which webhook URLs are allowed.",
    "encryption": "'encryption' is set, but Greenroom does not honour it yet: state is stored "
    "UNENCRYPTED.",
    "ui": "'ui' is set, but Greenroom serves no UI components.",
}

OURS = ("graphs", "default_graph", "defaults", "applications", "shipped_graphs")


def read_configuration(path: Path) -> Configuration:
    """Reads a configuration file, or the `langgraph.json` of a directory.

    Raises:
        ConfigurationError: it is missing, or says something that cannot be meant.
    """
    file = path / FILE_NAME if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(
            f"There is no configuration at {file}. Create a {FILE_NAME} with "
            '{"dependencies": ["."], "graphs": {"agent": "./agent.py:graph"}}, '
            "or name another file."
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
    """What the content of a `langgraph.json` means.

    Args:
        content: the parsed JSON.
        root: the directory that relative paths in it start from.

    Raises:
        ConfigurationError: with a sentence that names the key and what is allowed.
    """
    top = _object(content, f"{FILE_NAME}")
    ours = _object(top.get("greenroom", {}), "greenroom")
    _refuse_unknown(ours, OURS, "greenroom")
    targets = _object(top.get("graphs"), "graphs")
    shipped_graphs = ours.get("shipped_graphs", False)
    if not isinstance(shipped_graphs, bool):
        raise ConfigurationError("'greenroom.shipped_graphs' must be true or false.")
    if not targets and not shipped_graphs:
        raise ConfigurationError(
            f"'graphs' of {FILE_NAME} names no graph; "
            'add one, e.g. {"agent": "./agent.py:graph"}.'
        )

    placements = _object(ours.get("graphs", {}), "greenroom.graphs")
    for name in placements:
        if name not in targets:
            raise ConfigurationError(
                f"'greenroom.graphs.{name}' is about a graph that does not exist; "
                f"'graphs' has {_listed(targets)}."
            )
    defaults = parse_placement(ours.get("defaults", {}), PlacementSpec(), "greenroom.defaults")
    graphs = {
        name: _graph(
            name,
            value,
            parse_placement(placements.get(name, {}), defaults, f"greenroom.graphs.{name}"),
        )
        for name, value in targets.items()
    }

    default_graph = ours.get("default_graph")
    if default_graph is not None and default_graph not in graphs:
        raise ConfigurationError(
            f"'greenroom.default_graph' is {default_graph!r}; it must be one of {_listed(graphs)}."
        )
    import_paths, dependency_warnings = _import_paths(top.get("dependencies", []), root)
    return Configuration(
        root=root,
        graphs=graphs,
        env=_environment(top.get("env", {}), root),
        import_paths=import_paths,
        applications=_applications(ours.get("applications", {})),
        default_graph=default_graph if default_graph or len(graphs) != 1 else next(iter(graphs)),
        shipped_graphs=shipped_graphs,
        warnings=(*_warnings(top), *dependency_warnings),
    )


def _warnings(top: Mapping[str, Any]) -> list[str]:
    known = {"graphs", "dependencies", "env", "greenroom", *BUILD_ONLY, *NOT_HONOURED}
    found = [sentence for key, sentence in NOT_HONOURED.items() if top.get(key)]
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    if top.get("python_version") not in (None, running):
        found.append(
            f"'python_version' asks for {top['python_version']}, but this is Python {running}."
        )
    unknown = [key for key in top if key not in known]
    if unknown:
        found.append(
            f"{FILE_NAME} has keys that Greenroom does not know, and they have no effect: "
            f"{_listed(unknown)}."
        )
    return found


def _graph(name: str, value: Any, placement: PlacementSpec) -> GraphSpec:
    description = None
    if isinstance(value, Mapping):
        entry = _object(value, f"graphs.{name}")
        value, description = entry.get("path"), entry.get("description")
    if not isinstance(value, str) or not re.fullmatch(r"[^:]*[^:\s]:[A-Za-z_]\w*|.:.+:\w+", value):
        raise ConfigurationError(
            f"'graphs.{name}' is {value!r}; it must be './file.py:attribute' or "
            "'package.module:attribute', or an object with such a 'path'."
        )
    if description is not None and not isinstance(description, str):
        raise ConfigurationError(f"'graphs.{name}.description' must be a string.")
    if value.rpartition(":")[0].endswith((".js", ".ts", ".mjs", ".mts", ".cjs", ".cts", ".tsx")):
        raise ConfigurationError(
            f"Graph {name!r} is a JavaScript graph ({value}); Greenroom runs Python graphs only."
        )
    return GraphSpec(graph_id=name, target=value, description=description, placement=placement)


MINIMUM = {"runs_per_actor": 1, "max_attempts": 1}
"""The least value of a number; 0 where nothing is said."""


def _applications(value: Any) -> dict[str, str]:
    found = _object(value, "greenroom.applications")
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


def parse_placement(value: Any, base: PlacementSpec, where: str) -> PlacementSpec:
    """A placement from its keys; what it lacks is as in ``base``.

    Raises:
        ConfigurationError: a key is unknown, or its value cannot be; names it as ``where.key``.
    """
    given = _object(value, where)
    known = {item.name: getattr(base, item.name) for item in fields(PlacementSpec)}
    _refuse_unknown(given, tuple(known), where)
    for key, item in given.items():
        if key == "resources":
            known[key] = _resources(item, f"{where}.resources")
        elif key == "labels":
            known[key] = _labels(item, f"{where}.labels")
        elif key == "accelerator_type":
            known[key] = _text(item, f"{where}.accelerator_type")
        else:
            whole = isinstance(known[key], int)
            known[key] = _number(item, f"{where}.{key}", whole=whole, least=MINIMUM.get(key, 0))
    return PlacementSpec(**known)


def _number(value: Any, where: str, *, whole: bool, least: int) -> int | float:
    right = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not right or not value >= least or value == float("inf"):
        kind = "a whole number" if whole else "a number"
        raise ConfigurationError(f"'{where}' is {value!r}; it must be {kind}, at least {least}.")
    return int(value) if whole else float(value)


def _resources(value: Any, where: str) -> dict[str, float]:
    return {
        key: _number(item, f"{where}.{key}", whole=False, least=0)
        for key, item in _object(value, where).items()
    }


def _labels(value: Any, where: str) -> dict[str, str]:
    return {key: _text(item, f"{where}.{key}") for key, item in _object(value, where).items()}


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"'{where}' is {value!r}; it must be a string.")
    return value


def _import_paths(value: Any, root: Path) -> tuple[tuple[Path, ...], list[str]]:
    """Local ``dependencies`` are importable, others are expected to be installed already."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ConfigurationError("'dependencies' must be a list of strings.")
    paths: list[Path] = []
    missing: list[str] = []
    for item in value:
        if not item.startswith("."):
            continue
        path = (root / item).resolve()
        if path.is_dir():
            # A project in the "src layout" keeps its packages one level down.
            paths += [path, path / "src"] if (path / "src").is_dir() else [path]
        else:
            missing.append(item)
    warnings = [
        f"'dependencies' names {item!r}, which is no directory beside {FILE_NAME}; it was skipped."
        for item in missing
    ]
    return tuple(dict.fromkeys(paths)), warnings


def _environment(value: Any, root: Path) -> dict[str, str]:
    if isinstance(value, str):
        file = root / value
        try:
            return parse_env_file(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"'env' names the file {value!r}, which cannot be read from {root}: {error}"
            ) from None
    found = _object(value, "env")
    for key, item in found.items():
        if not isinstance(item, str | int | float) or isinstance(item, bool):
            raise ConfigurationError(f"'env.{key}' is {item!r}; it must be a string.")
    return {key: str(item) for key, item in found.items()}


_ENV_LINE = re.compile(
    r"""^[ \t]*(?:export[ \t]+)?(?P<key>[A-Za-z_][A-Za-z0-9_.]*)[ \t]*=[ \t]*
        (?:'(?P<single>[^']*)'|"(?P<double>(?:\\.|[^"\\])*)"|(?P<bare>[^\n]*?))
        (?:[ \t]+\#[^\n]*)?[ \t\r]*$""",
    re.VERBOSE | re.MULTILINE,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def parse_env_file(text: str) -> dict[str, str]:
    """The variables of a ``.env`` file: ``KEY=value``, quotes, ``export``, comments."""
    found: dict[str, str] = {}
    for match in _ENV_LINE.finditer(text):
        if match["single"] is not None:
            value = match["single"]
        elif match["double"] is not None:
            value = re.sub(
                r"\\(.)", lambda part: _ESCAPES.get(part[1], part[1]), match["double"], flags=re.S
            )
        else:
            value = "" if match["bare"].startswith("#") else match["bare"]
        found[match["key"]] = value
    return found


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigurationError(f"'{where}' must be a JSON object, not {_kind(value)}.")
    return value


def _refuse_unknown(given: Mapping[str, Any], allowed: tuple[str, ...], where: str) -> None:
    for key in given:
        if key not in allowed:
            raise ConfigurationError(f"'{where}.{key}' is unknown; allowed are {_listed(allowed)}.")


def _kind(value: Any) -> str:
    names = {type(None): "nothing", list: "a list", str: "a string", bool: "a boolean"}
    return names.get(type(value), "a number")


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names)
