"""Reads ``env`` of `langgraph.json`: an object, or the name of a ``.env`` file; and the variable
``LANGGRAPH_CONFIG``, which has the defaults of each graph.

A ``.env`` file holds secrets, so a repository ignores it and a fresh clone has none. A server
starts without it: a variable may be set elsewhere, and not every graph needs all of them.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from greenroom.core.errors import ConfigurationError
from greenroom.graphs.json_values import an_object

DEFAULTS = "LANGGRAPH_CONFIG"
"""As for LangGraph's server: ``{"graph": {"configurable": {...}, "recursion_limit": 50}}``. Its
``context`` is used here too."""

_TEMPLATE_SUFFIXES = (".example", ".sample", ".template", ".dist")


def environment_of(value: Any, root: Path) -> tuple[dict[str, str], Sequence[str]]:
    """Returns the variables of ``env``, and a sentence for each part of it without effect.

    Args:
        value: the value of ``env``.
        root: the directory of a relative file name.

    Raises:
        ConfigurationError: the value is malformed, or the file exists and cannot be read.
    """
    if value == "":
        return {}, ()
    if isinstance(value, str):
        try:
            # Editors of Windows begin a file with a mark, which would be part of the first name.
            return read_env((root / value).read_text(encoding="utf-8-sig")), ()
        except FileNotFoundError:
            return {}, (_absent(value, root),)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"'env' names the file {value!r}, which cannot be read from {root}: {error}"
            ) from None
    found = an_object(value, "env")
    for key, item in found.items():
        if not isinstance(item, str | int | float) or isinstance(item, bool):
            raise ConfigurationError(f"'env.{key}' is {item!r}; it must be a string.")
    return {key: str(item) for key, item in found.items()}, ()


def defaults_of(env: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Returns the config of each graph's assistant, from ``LANGGRAPH_CONFIG``.

    Args:
        env: the variables of ``env``, which go before those of the environment.

    Raises:
        ConfigurationError: the variable is not a JSON object of objects.
    """
    text = env.get(DEFAULTS) or os.environ.get(DEFAULTS)
    if not text:
        return {}
    try:
        found = an_object(json.loads(text), DEFAULTS)
    except json.JSONDecodeError as error:
        raise ConfigurationError(
            f"The variable {DEFAULTS} is not valid JSON: {error.msg} at column {error.colno}."
            ' It must be an object by graph, e.g. {"agent": {"configurable": {"model": "small"}}}.'
        ) from None
    for graph_id, config in found.items():
        an_object(config, f"{DEFAULTS}.{graph_id}")
        for key in ("configurable", "context", "metadata"):
            an_object(config.get(key, {}), f"{DEFAULTS}.{graph_id}.{key}")
    return found


def read_env(text: str) -> dict[str, str]:
    """Returns the variables of a ``.env`` file, as python-dotenv reads them.

    ``${NAME}`` stands for the value of a variable above it in the file, else for the value in the
    environment. A line that names a variable without ``=`` sets nothing.
    """
    found = dotenv_values(stream=io.StringIO(text))
    return {name: value for name, value in found.items() if value is not None}


def _absent(name: str, root: Path) -> str:
    said = (
        f"'env' names the file {name!r}, which does not exist; the graphs get no variables from it."
    )
    templates = [suffix for suffix in _TEMPLATE_SUFFIXES if (root / f"{name}{suffix}").is_file()]
    return f"{said} Copy {name + templates[0]!r} to it and fill it in." if templates else said
