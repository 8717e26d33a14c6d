"""What the Platform would refuse of a configuration that Greenroom serves.

Whoever serves a project here may want to take it to the Platform later, or comes from there. The
rules are those of the Platform's command and of its server at their start.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from greenroom.graphs.configuration import FILE_NAME
from greenroom.wire.encoding import is_object

OLDEST_PYTHON = (3, 11)


def refusals(content: Any) -> list[str]:
    """Returns a sentence for each reason why the Platform would not serve a configuration.

    Args:
        content: the parsed JSON of the file; one that Greenroom has accepted.
    """
    if not is_object(content):
        return []
    found: list[str] = []
    if not content.get("dependencies") and not content.get("source"):
        found.append("it wants 'dependencies', e.g. [\".\"]")
    if not content.get("graphs"):
        found.append("it wants a graph in 'graphs'")
    version = content.get("python_version")
    if (asked := _python(version)) is not None and asked < OLDEST_PYTHON:
        found.append(f"'python_version' is {version}, and it wants 3.11 or newer")
    env = content.get("env")
    if is_object(env):
        others = [name for name, value in env.items() if not isinstance(value, str)]
        if others:
            found.append(f"values of 'env' have to be strings ({', '.join(sorted(others))})")
    return [f"The Platform would refuse this {FILE_NAME}: {reason}." for reason in found]


def refusals_of(path: Path) -> list[str]:
    """Returns the `refusals` of a file, or of the `langgraph.json` of a directory, that
    `read_configuration` has read."""
    file = path / FILE_NAME if path.is_dir() else path
    return refusals(json.loads(file.read_text(encoding="utf-8-sig")))


def _python(version: Any) -> tuple[int, int] | None:
    if not isinstance(version, str) or not (read := re.match(r"(\d+)\.(\d+)", version)):
        return None
    return int(read[1]), int(read[2])
