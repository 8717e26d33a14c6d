"""The version of a server's code, to distinguish its actors from actors of other code."""

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


def code_version(configuration: Configuration, more: str = "") -> str:
    """Hashes Greenroom's code, the configuration, the Python files beside the graphs, and more.

    Detached actors outlive a redeploy; the version identifies those that run other code. It depends
    on contents only: the same code has the same version on every node and at every path.
    """
    ours = [Path(str(resources.files(package))) for package in ("greenroom", "actors")]
    about = dataclasses.replace(configuration, root=Path(), import_paths=())
    digest = hashlib.sha256(f"{about!r}{sorted(about.env.items())}{more}".encode())
    for root in (*ours, configuration.root):
        for file in sorted(_sources(root))[:MAX_SOURCES]:
            digest.update(f"{file.relative_to(root)}:".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]


def _sources(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = [each for each in folders if not each.startswith(".") and each not in SKIPPED]
        yield from (Path(folder) / name for name in files if name.endswith(".py"))
