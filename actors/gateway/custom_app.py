"""Makes the custom application of the configuration (``http.app``)."""

from __future__ import annotations

import importlib.util
import os
import sys
from types import ModuleType
from typing import Any

from starlette.types import ASGIApp

from greenroom.environment import SECRETS, forget_secrets
from greenroom.graphs.configuration import Configuration
from greenroom.graphs.custom_app import load_app
from greenroom.http.custom import CustomApp


def custom_app_of(configuration: Configuration) -> CustomApp | None:
    """Returns the application, not started yet; None if the configuration has none."""
    target = configuration.http.app
    if target is None:
        return None

    def load() -> Any:
        _be_found_by_the_sdk(custom.call)
        forget_secrets({*SECRETS, *configuration.webhooks.variables})
        os.environ.update(configuration.env_of_graphs)
        return load_app(configuration, target)

    custom = CustomApp(load, target)
    return custom


def _be_found_by_the_sdk(server: ASGIApp) -> None:
    """Lets ``langgraph_sdk.get_client()`` without a URL call this server, in custom routes.

    The SDK looks for the application of LangGraph's server by its name. Where that is installed the
    name is left to it.
    """
    name = "langgraph_api"
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        return
    package, module = ModuleType(name), ModuleType(f"{name}.server")
    package.__path__ = []
    module.app = server  # type: ignore[attr-defined]
    sys.modules |= {package.__name__: package, module.__name__: module}
