"""Imports the custom application that the configuration names (``http.app``)."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.applications import Starlette

from greenroom.core.errors import ConfigurationError
from greenroom.core.targets import Target
from greenroom.graphs.configuration import Configuration
from greenroom.graphs.importing import load_target

KEY = "http.app"


@dataclass(frozen=True, kw_only=True, slots=True)
class AppTarget(Target):
    """``http.app``."""

    @property
    def subject(self) -> str:
        return f"The application of {KEY}"

    @property
    def key(self) -> str:
        return KEY


def load_app(configuration: Configuration, target: str) -> Starlette:
    """Returns the application; blocks while it is imported.

    Raises:
        ConfigurationError: the import failed, or it names no application.
    """
    found = load_target(AppTarget(target=target), configuration)
    if not isinstance(found, Starlette):
        raise ConfigurationError(
            f"'{KEY}' is {target!r}, which is {type(found).__name__} and not a"
            " Starlette or FastAPI application."
        )
    return found
