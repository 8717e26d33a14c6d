"""The arrows of the layer picture (docs/architecture.md): who may import whom.

serve_app.py, cli             everything
http | actors                 siblings; neither imports the other
wire | graphs, persistence
core                          standard library only
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LAYERS: dict[str, tuple[str, ...]] = {
    "greenroom.core": ("greenroom.core",),
    "greenroom.wire": ("greenroom.core", "greenroom.wire"),
    # Events are encoded once, where they come into being: `wire.encoding` is the JSON of the API
    # and knows nothing of HTTP.
    "greenroom.graphs": (
        "greenroom.core",
        "greenroom.graphs",
        "greenroom.wire.encoding",
        "greenroom.tracing",
    ),
    "greenroom.persistence": ("greenroom.core", "greenroom.persistence"),
    "greenroom.http": (
        "greenroom.core",
        "greenroom.wire",
        "greenroom.http",
        "greenroom.settings",
        "greenroom.tracing",
    ),
    "actors": (
        "greenroom.core",
        "greenroom.graphs",
        "greenroom.persistence",
        "greenroom.settings",
        "greenroom.logs",
        "greenroom.environment",
        "greenroom.tracing",
        # Run actors also frame them, so that gateways only pass bytes on.
        "greenroom.wire.encoding",
        "greenroom.wire.sse",
        "actors",
    ),
    # For graphs, not for the server: it knows nothing of ours.
    "greenroom.models": ("greenroom.models",),
    "greenroom.settings": ("greenroom.core",),
    "greenroom.logs": ("greenroom.settings",),
    "greenroom.tracing": ("greenroom.tracing",),
    "greenroom.environment": ("greenroom.core", "greenroom.settings"),
}
"""What of ours each layer may import; modules that stand in no layer compose them."""

COMPOSITION = {"actors.server.server", "actors.gateway.deployment"}
"""Modules of `actors` that put the two siblings together: they may import http."""

FORBIDDEN: dict[str, tuple[str, ...]] = {
    "greenroom.core": ("ray", "langgraph", "langchain_core", "fastapi", "pydantic", "psycopg"),
    "greenroom.wire": ("ray", "langgraph", "fastapi", "psycopg"),
    "greenroom.graphs": ("ray", "fastapi", "psycopg"),
    "greenroom.graphs.configuration": ("langgraph", "langchain_core"),
    "greenroom.persistence": ("ray", "fastapi"),
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
    "greenroom.http.app": ("ray", "langgraph", "langchain_core"),
    "greenroom.models": ("ray",),
    "greenroom.tracing": ("opentelemetry",),
    "actors.registry.actor": ("langgraph", "langchain_core"),
}
"""What must not even be there after a real import, through whatever detour."""


def modules() -> Iterator[tuple[str, Path]]:
    for file in sorted([*ROOT.glob("greenroom/**/*.py"), *ROOT.glob("actors/**/*.py")]):
        parts = file.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__"), file


def imports(name: str, file: Path) -> Iterator[str]:
    """Every module that is imported anywhere in a file, also within functions."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
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


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


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


def test_core_imports_the_standard_library_only() -> None:
    wrong = [
        f"{name} imports {imported}"
        for name, file in modules()
        if within(name, ("greenroom.core",))
        for imported in imports(name, file)
        if imported.partition(".")[0] not in {*sys.stdlib_module_names, "greenroom"}
    ]
    assert not wrong, "\n".join(wrong)


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
