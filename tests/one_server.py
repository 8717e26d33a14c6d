"""The server of all folders whose tests keep apart by their threads.

A server costs more to start than most of these folders cost to run. So one has the graphs of all of
them: the probes, those of `tests/conformance` and `tests/clients`, and all pages of the guides.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from greenroom.graphs.configuration import FILE_NAME
from tests.conformance.folder import write_folder
from tests.guides.site import Site, write_site

FOLDERS = (
    "tests/guides/",
    "tests/clients/",
    "tests/console/",
    "tests/conformance/",
    "tests/server/",
)
"""Whose tests use it, as their ids begin, in their order.

The guides are first: one of them takes all threads that there are to another server.
"""

CLIENTS = Path(__file__).parent / "clients" / FILE_NAME

ENVIRONMENT = {
    # It may call this machine, tries again at once and sweeps all the time.
    "GREENROOM_WEBHOOK_ALLOW_PRIVATE": "true",
    "GREENROOM_WEBHOOK_RETRY_S": "0.1",
    "GREENROOM_SWEEP_INTERVAL_S": "0.4",
    "GREENROOM_OPENAI": "true",
    # What a run that ignores its cancellation gets; tests wait for it.
    "GREENROOM_CANCEL_GRACE_S": "2.5",
    # Nobody reaches it; what is left of it shows whom the server counts.
    "GREENROOM_LIMIT_REQUESTS": "10000000/day",
    "GREENROOM_LIMIT_RUNS": "100000",
}


def write_everything(folder: Path) -> Site:
    """Writes one configuration with all graphs, each under a name of its own."""
    pages = write_site(folder / "pages")
    whole: dict[str, Any] = {"dependencies": [], "graphs": {}, "env": {}, "http": {}}
    greenroom: dict[str, Any] = {"graphs": {}}
    probes = write_folder(folder / "probes")
    whole["store"] = json.loads(probes.read_text())["store"]
    embed = probes.parent / whole["store"]["index"]["embed"]
    whole["store"]["index"]["embed"] = str(embed.resolve())
    for config in (probes, CLIENTS, pages.config):
        part = json.loads(config.read_text())
        whole["dependencies"] += [
            os.path.relpath(config.parent / path, folder) for path in part["dependencies"]
        ]
        for name, target in part["graphs"].items():
            assert name not in whole["graphs"], f"{config}: there is another graph {name!r}"
            is_file = ".py:" in target
            whole["graphs"][name] = str((config.parent / target).resolve()) if is_file else target
        whole["env"] |= part.get("env", {})
        whole["http"] |= part.get("http", {})
        told = part.get("greenroom", {})
        greenroom["graphs"] |= told.pop("graphs", {})
        greenroom |= told
    path = folder / FILE_NAME
    path.write_text(json.dumps({**whole, "greenroom": greenroom}, indent=2))
    page = json.loads((folder / "pages" / "memory" / FILE_NAME).read_text())["store"]["index"]
    shared = whole["store"]["index"]
    assert {**page, "embed": ""} == {**shared, "embed": ""}, "there is one store for all"
    return Site(path, {**pages.environment, **ENVIRONMENT})
