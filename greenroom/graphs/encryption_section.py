"""Parses ``encryption`` of `langgraph.json`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from greenroom.core.errors import ConfigurationError
from greenroom.core.targets import Target
from greenroom.graphs.json_values import an_object, refuse_unknown

KEY = "encryption.path"


@dataclass(frozen=True, kw_only=True, slots=True)
class EncryptionTarget(Target):
    """The handlers of a project that encrypt state."""

    @property
    def subject(self) -> str:
        return "The encryption"

    @property
    def key(self) -> str:
        return KEY


def parse_encryption(value: Any) -> EncryptionTarget | None:
    """Parses the section.

    Raises:
        ConfigurationError: a value is invalid; the message names its key.
    """
    if value is None:
        return None
    given = an_object(value, "encryption")
    refuse_unknown(given, ("path",), "encryption")
    path = given.get("path")
    if not isinstance(path, str) or not all(path.rpartition(":")[::2]):
        raise ConfigurationError(
            f"'{KEY}' must be a file or a module and an attribute, such as"
            " './encryption.py:encryption'."
        )
    return EncryptionTarget(target=path)
