"""What a server takes, by the kind of its processes; a line for each figure."""

from __future__ import annotations

import contextlib
import json
import os
from collections import defaultdict
from typing import Any

import psutil

from benchmarks.client import Api
from benchmarks.processes import MIB
from benchmarks.subjects import Greenroom

KINDS = {
    "ServeReplica": "gateways",
    "RunActor": "run actors",
    "Registry": "registry",
    "Inspector": "inspectors",
    "haproxy": "HAProxy",
    "postgres": "PostgreSQL",
}


def said(**figures: Any) -> None:
    print(json.dumps({**figures, "load": round(os.getloadavg()[0], 1)}), flush=True)


def memory_of(server: Greenroom) -> dict[str, float]:
    """Returns the MiB of the server's processes (PSS), by their kind."""
    found: dict[str, float] = defaultdict(float)
    for process in server.processes:
        with contextlib.suppress(psutil.Error):
            found[_kind(process)] += process.memory_full_info().pss / MIB
    return found


def shown_growth(
    of: str, before: dict[str, float], after: dict[str, float], number: int
) -> dict[str, float]:
    """Prints by how many KiB the processes have grown for each of a number of things."""
    grown = {
        kind: round((mib - before.get(kind, 0.0)) * 1024 / number, 1) for kind, mib in after.items()
    }
    said(kib_of=of, all=round(sum(grown.values()), 1), **grown)
    return after


def cpu_of(server: Greenroom) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for process in server.processes:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            found[_kind(process)] += times.user + times.system
    return found


def _kind(process: psutil.Process) -> str:
    title = " ".join(process.cmdline()[:1]) or process.name()
    return next((kind for part, kind in KINDS.items() if part in title), "Ray and others")


async def trivial(api: Api) -> None:
    await api.wait(await api.thread(), "trivial", {"x": 1})
