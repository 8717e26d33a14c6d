"""The arrows of the layer picture (docs/architecture.md): who may import whom.

serve_app.py, cli             everything
http | actors                 siblings; neither imports the other
wire | graphs, persistence
core                          standard library only
"""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LAYERS: dict[str, tuple[str, ...]] = {
    "greenroom.core": ("greenroom.core",),
    # State at rest: whoever stores or shows state seals or opens it.
    "greenroom.sealing": ("greenroom.core", "greenroom.sealing"),
    "greenroom.wire": ("greenroom.core", "greenroom.sealing", "greenroom.wire"),
    # Events are encoded once, where they come into being: `wire.encoding` is the JSON of the API
    # and knows nothing of HTTP.
    "greenroom.graphs": (
        "greenroom.core",
        "greenroom.graphs",
        "greenroom.sealing",
        "greenroom.wire.encoding",
        "greenroom.tracing",
        "greenroom.langgraph_internals",
    ),
    "greenroom.persistence": (
        "greenroom.core",
        "greenroom.machine",
        "greenroom.persistence",
        "greenroom.sealing",
        "greenroom.langgraph_internals",
    ),
    # One place for both, since neither of the two may import the other.
    "greenroom.langgraph_internals": ("greenroom.langgraph_internals",),
    "greenroom.http": (
        "greenroom.core",
        "greenroom.wire",
        "greenroom.http",
        "greenroom.machine",
        "greenroom.sealing",
        "greenroom.schedules",
        "greenroom.settings",
        "greenroom.tracing",
    ),
    # User code that says who is let in; it knows neither routes nor records.
    "greenroom.auth": (
        "greenroom.core",
        "greenroom.auth",
        "greenroom.graphs.configuration",
        "greenroom.graphs.importing",
    ),
    "actors": (
        "greenroom.core",
        "greenroom.graphs",
        "greenroom.persistence",
        "greenroom.sealing",
        "greenroom.settings",
        "greenroom.logs",
        "greenroom.environment",
        "greenroom.late_imports",
        "greenroom.machine",
        "greenroom.schedules",
        "greenroom.tracing",
        # A registry makes the runs of its crons, as a gateway makes those of clients.
        "greenroom.wire.requests",
        # Run actors also frame them, so that gateways only pass bytes on.
        "greenroom.wire.encoding",
        "greenroom.wire.sse",
        "actors",
    ),
    # For graphs, not for the server: it knows nothing of ours.
    "greenroom.models": ("greenroom.models",),
    # Dates of crons: a gateway refuses schedules, a registry fires by them.
    "greenroom.schedules": ("greenroom.core",),
    "greenroom.settings": (
        "greenroom.core",
        "greenroom.setting_groups",
        "greenroom.setting_values",
    ),
    "greenroom.setting_groups": ("greenroom.core", "greenroom.setting_values"),
    "greenroom.setting_values": ("greenroom.core",),
    "greenroom.logs": ("greenroom.settings",),
    "greenroom.tracing": ("greenroom.tracing",),
    "greenroom.environment": (
        "greenroom.core",
        "greenroom.haproxy_wrapper",
        "greenroom.machine",
        "greenroom.settings",
    ),
    "greenroom.haproxy_wrapper": (),
    "greenroom.late_imports": (),
    "greenroom.machine": ("greenroom.core",),
}
"""What of ours each layer may import; modules that stand in no layer compose them."""

COMPOSITION = {
    "actors.server.server",
    "actors.gateway.custom_app",
    "actors.gateway.replica",
    "actors.setups",
}
"""Modules of `actors` that put the two siblings together: they may import http."""

ADAPTERS = {
    "ray": {
        "actors.calls.ray_internals",
        # `DeploymentHandle._init`: for graphs, so it imports nothing of ours.
        "greenroom.models",
    },
    "langgraph": {"greenroom.langgraph_internals"},
    "langgraph_sdk": {"greenroom.langgraph_internals", "greenroom.auth.sdk"},
}
"""The modules that may use what a library keeps to itself."""

GENERATED = ("ray.core.generated",)
"""Modules that are private without an underscore in their names."""

FORBIDDEN: dict[str, tuple[str, ...]] = {
    "greenroom.core": ("ray", "langgraph", "langchain_core", "fastapi", "pydantic", "psycopg"),
    "greenroom.wire": ("ray", "langgraph", "fastapi", "psycopg"),
    "greenroom.graphs": ("ray", "fastapi", "psycopg"),
    "greenroom.graphs.configuration": ("langgraph", "langchain_core"),
    "greenroom.persistence": ("ray", "fastapi"),
    "greenroom.auth": ("ray", "langgraph", "langchain_core", "psycopg", "fastapi"),
    "greenroom.http": ("ray", "langgraph", "langchain_core", "psycopg"),
    "actors.registry": ("langgraph", "langchain_core", "fastapi"),
    "actors.registry.pool": ("langgraph", "langchain_core", "fastapi", "ray"),
    "actors.common.placement": ("langgraph", "langchain_core", "fastapi", "ray"),
}
"""Libraries that a layer must not name."""

NEVER_LOADED: dict[str, tuple[str, ...]] = {
    "greenroom": ("ray", "langgraph", "langchain_core", "matplotlib", "IPython", "httpx"),
    "greenroom.notebook": ("ray", "actors", "matplotlib", "IPython"),
    "greenroom.graphs.configuration": ("langgraph", "langchain_core", "ray"),
    "greenroom.cli": ("langgraph", "langchain_core", "ray", "actors", "fastapi"),
    # Both protocols are loaded at their first request.
    "greenroom.http.app": (
        *("ray", "langgraph", "langchain_core", "mcp", "a2a", "google"),
        *("langgraph_sdk", "jwt"),
    ),
    "greenroom.models": ("ray",),
    "greenroom.tracing": ("opentelemetry",),
    "actors.registry.actor": ("langgraph", "langchain_core"),
}
"""What must not even be there after a real import, through whatever detour."""


def modules() -> Iterator[tuple[str, Path]]:
    for file in sorted([*ROOT.glob("greenroom/**/*.py"), *ROOT.glob("actors/**/*.py")]):
        parts = file.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__"), file


@functools.cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def nodes(tree: ast.AST, *, typing: bool) -> Iterator[ast.AST]:
    """All that is in a module; without ``typing`` not what only a type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not typing:
            for other in node.orelse:
                yield other
                yield from nodes(other, typing=typing)
            continue
        yield node
        yield from nodes(node, typing=typing)


@functools.cache
def imports(name: str, file: Path, *, typing: bool = True) -> tuple[str, ...]:
    """Every module that is imported anywhere in a file, also within functions.

    Args:
        typing: also what only a type checker imports.
    """
    return tuple(_imports(name, file, typing=typing))


def _imports(name: str, file: Path, *, typing: bool) -> Iterator[str]:
    for node in nodes(parsed(file), typing=typing):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = name.split(".")
            if node.level:
                inside = package if file.name == "__init__.py" else package[:-1]
                base = ".".join(inside[: len(inside) - node.level + 1])
                origin = f"{base}.{node.module}" if node.module else base
            else:
                origin = node.module or ""
            # `from greenroom import x` may name a module as well as an object of one.
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def private_names(name: str, file: Path) -> Iterator[tuple[str, str]]:
    """What a module uses of the libraries in `ADAPTERS` that is private: library, dotted name.

    That is what it imports, and what it reaches by attributes from an imported name.
    """
    tree = parsed(file)
    roots: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                whole = each.asname and each.name
                roots[each.asname or each.name.partition(".")[0]] = (
                    whole or each.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and not node.level:
            roots.update(
                (each.asname or each.name, f"{node.module}.{each.name}") for each in node.names
            )
    reached = (
        f"{roots[base]}.{path}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        for base, _, path in [ast.unparse(node).partition(".")]
        if base in roots
    )
    for found in dict.fromkeys([*imports(name, file), *reached]):
        library, *parts = found.split(".")
        private = any(part.startswith("_") and not part.endswith("__") for part in parts)
        if library in ADAPTERS and (private or within(found, GENERATED)):
            yield library, found


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def graph() -> dict[str, set[str]]:
    """Which of our modules each of them imports, by name and at any time.

    That Python also executes the packages around a module is no import here: they import nothing
    at once.
    """
    files = dict(modules())
    found: dict[str, set[str]] = {name: set() for name in files}
    for name, file in files.items():
        for imported in imports(name, file, typing=False):
            # The last part of the name may be an object of the module before it.
            module = imported if imported in files else imported.rpartition(".")[0]
            if module in files:
                found[name].add(module)
    return found


def packages_of_actors(of_modules: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same for the packages of `actors`, and the modules that are in none."""

    def package(name: str) -> str:
        return ".".join(name.split(".")[:2])

    found: dict[str, set[str]] = {}
    for name, imported in of_modules.items():
        if within(name, ("actors",)):
            targets = {package(each) for each in imported if within(each, ("actors",))}
            found.setdefault(package(name), set()).update(targets - {package(name)})
    return found


def cycle(of: dict[str, set[str]]) -> list[str]:
    """A way from a module back to itself; empty if there is none."""
    done: set[str] = set()

    def follow(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for target in sorted(of.get(name, ())):
            if found := follow(target, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(of) if (found := follow(name, []))), [])


def layer_of(name: str) -> str | None:
    return next((layer for layer in LAYERS if within(name, (layer,))), None)


def test_no_module_imports_against_the_arrows() -> None:
    wrong = [
        f"{name} imports {imported}"
        for name, file in modules()
        if (layer := layer_of(name)) is not None and name not in COMPOSITION
        for imported in imports(name, file)
        if within(imported, ("greenroom", "actors", "serve_app"))
        and not within(imported, LAYERS[layer])
    ]
    assert not wrong, "\n".join(wrong)


def test_no_layer_names_a_library_that_is_not_its_own() -> None:
    wrong = [
        f"{name} imports {imported}"
        for name, file in modules()
        for layer, libraries in FORBIDDEN.items()
        if within(name, (layer,))
        for imported in imports(name, file)
        if within(imported, libraries)
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_adapters_use_what_a_library_keeps_to_itself() -> None:
    wrong = [
        f"{name} uses {found}"
        for name, file in modules()
        for library, found in private_names(name, file)
        if name not in ADAPTERS[library]
    ]
    assert not wrong, "\n".join(wrong)


def test_core_imports_the_standard_library_only() -> None:
    wrong = [
        f"{name} imports {imported}"
        for name, file in modules()
        if within(name, ("greenroom.core",))
        for imported in imports(name, file)
        if imported.partition(".")[0] not in {*sys.stdlib_module_names, "greenroom"}
    ]
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_by_a_detour() -> None:
    assert " imports ".join(cycle(graph())) == ""


def test_no_package_of_actors_imports_itself_by_a_detour() -> None:
    assert " imports ".join(cycle(packages_of_actors(graph()))) == ""


@pytest.mark.parametrize("name", NEVER_LOADED)
def test_a_module_does_not_load_what_it_must_not_know(name: str) -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", f"import sys, {name}; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert loaded.returncode == 0, loaded.stderr
    roots = {module.partition(".")[0] for module in loaded.stdout.split()}
    assert not roots & set(NEVER_LOADED[name])


def test_the_reader_of_imports_sees_every_form(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(
        "import a.b\nfrom c import d\nfrom . import e\nfrom ..f import g\n"
        "def late():\n    import h\n"
    )
    found = set(imports("greenroom.http.module", file))
    assert found == {"a.b", "c.d", "greenroom.http.e", "greenroom.f.g", "h"}


def test_the_finder_of_private_names_sees_every_form(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(
        "import ray\nimport ray._private.worker\nimport ray.util as u\n"
        "from langgraph._internal import x\nfrom langgraph.pregel import _algo, Pregel\n"
        "from ray.core.generated.autoscaler_pb2 import Reply\nfrom ray import __version__\n"
        "ray._private.node.Node()\nu._secret()\nray.get(1)._anything\nPregel.__name__\n"
    )
    found = {name for _, name in private_names("greenroom.module", file)}
    assert found == {
        "ray._private.worker",
        "langgraph._internal.x",
        "langgraph.pregel._algo",
        "ray.core.generated.autoscaler_pb2.Reply",
        "ray._private.node.Node",
        "ray._private.node",
        "ray._private",
        "ray.util._secret",
        "ray.get(1)._anything",
    }


def test_what_only_a_type_checker_reads_is_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a\nelse:\n    import b\n"
    )
    assert set(imports("m", file)) == {"typing.TYPE_CHECKING", "a", "b"}
    assert set(imports("m", file, typing=False)) == {"typing.TYPE_CHECKING", "b"}


def test_the_finder_of_cycles_names_the_way() -> None:
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"d", "b"}, "d": set()}) == ["b", "c", "b"]
    assert cycle({"a": {"a"}}) == ["a", "a"]
