"""The version of the code that a server runs, to tell its actors from those of other code."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from greenroom.graphs.configuration import Configuration

MAX_SOURCES = 5000
SKIPPED = frozenset({"node_modules", "site-packages", "__pycache__"})


def code_version(configuration: Configuration) -> str:
    """Changes with Greenroom's code, the configuration, and Python files beside the graphs.

    Detached actors outlive a redeploy; this tells those that run other code. By content: the same
    code has the same version on every node, whenever and wherever to it was copied.
    """
    ours = [Path(str(resources.files(package))) for package in ("greenroom", "actors")]
    about = dataclasses.replace(configuration, root=Path(), import_paths=())
    digest = hashlib.sha256(repr(about).encode())
    for root in (*ours, configuration.root):
        for file in sorted(_sources(root))[:MAX_SOURCES]:
            digest.update(f"{file.relative_to(root)}:".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]


def _sources(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = [each for each in folders if not each.startswith(".") and each not in SKIPPED]
        yield from (Path(folder) / name for name in files if name.endswith(".py"))
