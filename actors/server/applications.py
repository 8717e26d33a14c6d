"""Ray Serve applications that a configuration wants beside the server: models, above all.

``greenroom.applications`` of langgraph.json names them, and graphs call them by name with
`greenroom.models.ServeChatModel`. They get no HTTP route. On a cluster of your own, applications
that others deploy are called the same way; nothing has to be said here about those.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading

from ray import serve

from greenroom.core.errors import ConfigurationError
from greenroom.graphs.configuration import Configuration

log = logging.getLogger("greenroom.applications")

SLOW_S = 45.0
"""Serve notices after 30 s that a replica finds no place."""


def load(configuration: Configuration) -> dict[str, serve.Application]:
    """The applications by name, imported but not deployed yet.

    Call it before ``ray.init``: the processes of a Ray that is started then look for modules where
    this one does. On a cluster that runs already, the modules have to be importable there.

    Raises:
        ConfigurationError: one cannot be imported; names it, and says why.
    """
    if not configuration.applications:
        return {}
    paths = [str(path) for path in (configuration.root, *configuration.import_paths)]
    sys.path[:0] = [path for path in paths if path not in sys.path]
    # Of its starter's path Ray tells its processes only the directory that it was started in.
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, *([inherited] if inherited else [])])
    return {name: _load(name, target) for name, target in configuration.applications.items()}


def _load(name: str, target: str) -> serve.Application:
    module, _, attribute = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except (Exception, SystemExit) as error:  # it is the user's code that runs
        raise ConfigurationError(
            f"Application {name!r}: importing {module} failed: {type(error).__name__}: {error}."
            f" Correct 'greenroom.applications.{name}', or 'dependencies'."
        ) from error
    if not isinstance(found, serve.Application):
        raise ConfigurationError(
            f"Application {name!r}: {target} is {type(found).__name__}, not a Ray Serve"
            " application. Name what `SomeDeployment.bind()` returned."
        )
    return found


def deploy(name: str, application: serve.Application) -> None:
    """Deploys one, or replaces it; returns when it can be called.

    A large model may take minutes to load, so this waits for as long as it takes; but after a while
    it says what it waits for, as that may be a GPU that is not there.

    Raises:
        ConfigurationError: it does not start; Serve's own words say why.
    """
    slow = threading.Timer(SLOW_S, _say_why, (name,))
    slow.daemon = True
    slow.start()
    try:
        serve.run(application, name=name, route_prefix=None, blocking=False)
    except RuntimeError as error:  # what Serve raises when replicas fail to start
        log.debug("An application could not be deployed.", extra={"reason": _reasons(name)})
        # A traceback, whose last line is the exception.
        reasons = (_reasons(name) or str(error)).strip().splitlines()[-1]
        raise ConfigurationError(f"Application {name!r} cannot be deployed: {reasons}") from error
    finally:
        slow.cancel()


def _say_why(name: str) -> None:
    log.warning(
        f"Application {name!r} is not running yet. {_reasons(name)}",
        extra={"action": "application_slow", "application": name},
    )


def _reasons(name: str) -> str:
    found = serve.status().applications.get(name)
    deployments = found.deployments.values() if found is not None else ()
    return " ".join(each.message for each in deployments if each.message)
