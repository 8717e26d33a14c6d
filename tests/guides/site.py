"""The files of all pages, written below a folder, as one server's configuration."""

from __future__ import annotations

import json
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from greenroom.graphs.configuration import FILE_NAME, read_configuration
from tests.guides.pages import PAGES, ROOT, Block, blocks

PRETENDED = {"RAY_OVERRIDE_RESOURCES": json.dumps({"GPU": 1})}
"""What Ray believes this machine to have: a place on a GPU can be had without one."""

OTHERWISE_NAMED = {name: f"example_{name}" for name in ("approval", "blocking", "slow")}
"""Examples under the names of probes, which the server of the tests has as well."""


@dataclass(frozen=True)
class Site:
    """What the pages' server is started with.

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


def write_site(folder: Path) -> Site:
    """Writes the files of all pages below a folder, and one configuration for all of them.

    A graph's name belongs to one page. Of the placements all is kept but `warm`: the pools of pages
    that are not being tested need no actors.
    """
    graphs: dict[str, Any] = {}
    placements: dict[str, Any] = {}
    env: dict[str, str] = {}
    http: dict[str, str] = {}
    environment = dict(PRETENDED)
    # Relative, since only a dependency that begins with a dot is a folder.
    dependencies = [os.path.relpath(ROOT / "examples", folder)]
    examples = json.loads((ROOT / "examples" / FILE_NAME).read_text())["graphs"]
    for name, target in examples.items():
        graphs[OTHERWISE_NAMED.get(name, name)] = str((ROOT / "examples" / target).resolve())
    for page in PAGES:
        own = folder / page.stem
        if any(block.own_server for block in blocks(page)):
            continue
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
        if configuration.http.app is not None:
            assert not http, f"{page.name}: another page has an application"
            source, _, attribute = configuration.http.app.rpartition(":")
            http["app"] = f"{(own / source).resolve()}:{attribute}"
    config = folder / FILE_NAME
    config.write_text(
        json.dumps(
            {
                "dependencies": dependencies,
                "graphs": graphs,
                "env": env,
                "http": http,
                "greenroom": {"graphs": placements},
            }
        )
    )
    return Site(config, environment)
