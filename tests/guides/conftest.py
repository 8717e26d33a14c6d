"""One server for all pages: it has the graphs of each of them, and the examples."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from greenroom.graphs.configuration import FILE_NAME, read_configuration
from tests.clients import npm
from tests.clients.chromium import Browser
from tests.guides.pages import PAGES, ROOT, Block, blocks
from tests.serving import Served, serving

PRETENDED = {"RAY_OVERRIDE_RESOURCES": json.dumps({"GPU": 1})}
"""What Ray believes this machine to have: a place on a GPU can be had without one."""
ENOUGH = {"GREENROOM_GATEWAY_REPLICAS": "1"}
"""No page kills a gateway, so that none needs to stand by."""


@dataclass(frozen=True)
class Site:
    """The files of all pages, as one server's configuration.

    Attributes:
        config: its `langgraph.json`.
        environment: what the pages set before `greenroom serve`.
    """

    config: Path
    environment: dict[str, str]


def environment_of(block: Block) -> dict[str, str]:
    """The variables that a `greenroom serve` of a page is started with."""
    command = re.search(r"^(.*)greenroom serve", block.text, re.MULTILINE)
    assert command is not None
    words = shlex.split(command[1])
    return dict(word.split("=", 1) for word in words)


def site(folder: Path) -> Site:
    """Writes the files of all pages below a folder, and one configuration for all of them.

    A graph's name belongs to one page. Of the placements all is kept but `warm`: the pools of pages
    that are not being tested need no actors.
    """
    graphs: dict[str, Any] = {}
    placements: dict[str, Any] = {}
    env: dict[str, str] = {}
    environment: dict[str, str] = {}
    # Relative, since only a dependency that begins with a dot is a folder.
    dependencies = [os.path.relpath(ROOT / "examples", folder)]
    examples = json.loads((ROOT / "examples" / FILE_NAME).read_text())["graphs"]
    for name, target in examples.items():
        graphs[name] = str((ROOT / "examples" / target).resolve())
    for page in PAGES:
        own = folder / page.stem
        for block in blocks(page):
            if block.file:
                (own / block.file).parent.mkdir(parents=True, exist_ok=True)
                (own / block.file).write_text(block.text)
            elif block.language == "sh" and "greenroom serve" in block.text:
                environment |= environment_of(block)
        if not (own / FILE_NAME).exists():
            continue
        configuration = read_configuration(own)
        env |= configuration.env
        dependencies += [os.path.relpath(path, folder) for path in configuration.import_paths]
        told = json.loads((own / FILE_NAME).read_text()).get("greenroom", {}).get("graphs", {})
        for name, graph in configuration.graphs.items():
            assert name not in graphs, f"{page.name}: another page has a graph {name!r}"
            is_file = graph.source.endswith(".py")
            graphs[name] = (
                f"{(own / graph.source).resolve()}:{graph.attribute}" if is_file else (graph.target)
            )
            if name in told:
                placements[name] = {**told[name], "warm": 0}
    config = folder / FILE_NAME
    config.write_text(
        json.dumps(
            {
                "dependencies": dependencies,
                "graphs": graphs,
                "env": env,
                "greenroom": {"graphs": placements},
            }
        )
    )
    return Site(config, environment)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    try:
        node, chromium = npm.node(), npm.chromium()
    except npm.Missing as missing:
        pytest.skip(f"{missing}.")
    with Browser.launched(node, chromium) as browser:
        yield browser


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    everything = site(tmp_path_factory.mktemp("guides"))
    with serving(
        tmp_path_factory.mktemp("guides-data"),
        everything.config,
        environment={**PRETENDED, **ENOUGH, **everything.environment},
    ) as served:
        yield served
