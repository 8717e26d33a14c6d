"""Makes the custom application of the configuration (``http.app``)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from greenroom.core.errors import ConfigurationError
from greenroom.environment import SECRETS, forget_secrets
from greenroom.graphs.configuration import Configuration
from greenroom.graphs.importing import module_of
from greenroom.http.custom import CustomApp


@dataclass(frozen=True, slots=True)
class _Target:
    """``http.app``, as `greenroom.graphs.importing` takes it."""

    target: str

    @property
    def subject(self) -> str:
        return "The application of http.app"

    @property
    def key(self) -> str:
        return "http.app"

    @property
    def source(self) -> str:
        return self.target.rpartition(":")[0]


def custom_app_of(configuration: Configuration) -> CustomApp | None:
    """Returns the application, not started yet; None if the configuration has none."""
    target = configuration.http.app
    if target is None:
        return None

    def load() -> Any:
        forget_secrets({*SECRETS, *configuration.webhooks.variables})
        os.environ.update(configuration.env_of_graphs)
        spec = _Target(target)
        module = module_of(
            spec, configuration.root, configuration.import_paths, configuration.graphs.values()
        )
        name = target.rpartition(":")[2]
        if not hasattr(module, name):
            raise ConfigurationError(
                f"{spec.subject}: {spec.source} has no {name!r}. Correct 'http.app', which is"
                f" {target!r}."
            )
        return getattr(module, name)

    return CustomApp(load, target)
