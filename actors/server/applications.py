"""Ray Serve applications that a configuration deploys beside the server, mainly models.

``greenroom.applications`` of langgraph.json names them, and graphs call them by name with
`greenroom.models.ServeChatModel`. They get no HTTP route. Graphs can also call applications that
were deployed on the cluster by other means; the configuration need not name those.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
import threading
from pathlib import Path

from ray import serve

from actors.calls import ray_internals
from greenroom.core.errors import ConfigurationError
from greenroom.graphs.configuration import Configuration
from greenroom.graphs.json_values import listed
from greenroom.graphs.module_path import make_importable

log = logging.getLogger("greenroom.applications")

ASK_S = 0.1
"""The seconds between two questions to Serve whether an application runs."""
SLOW_S = 45.0
"""How long a deployment may take before the log says why: Serve notices after 30 s that no node has
room for a replica."""


def load(configuration: Configuration) -> dict[str, serve.Application]:
    """Imports the configured applications; returns them by name, not deployed yet.

    Call it before ``ray.init``: a local Ray then inherits this process's module path. On an
    existing cluster the modules must be importable there.

    Raises:
        ConfigurationError: an application cannot be imported; the message names it and the reason.
    """
    if not configuration.applications:
        return {}
    paths = list(dict.fromkeys([configuration.root, *configuration.import_paths]))
    make_importable(paths)
    for path in paths:
        _refuse_hiding(path)
    # Ray passes nothing of this process's module path on.
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([*map(str, paths), *filter(None, [inherited])])
    return {name: _load(name, target) for name, target in configuration.applications.items()}


def _refuse_hiding(path: Path) -> None:
    """Refuses a directory with files called like modules of Python.

    In ``PYTHONPATH`` it comes before the standard library, also in processes of Ray's own.
    """
    hiding = sorted(
        name
        for name in sys.stdlib_module_names
        if (path / f"{name}.py").is_file() or (path / name / "__init__.py").is_file()
    )
    if hiding:
        raise ConfigurationError(
            f"{path} has {listed(hiding)}, called like modules of Python: 'greenroom.applications'"
            " puts that directory before them, for Ray too. Rename them."
        )


def _load(name: str, target: str) -> serve.Application:
    module, _, attribute = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except (Exception, SystemExit) as error:  # the import runs user code
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


def run(application: serve.Application, *, name: str, route_prefix: str | None) -> None:
    """Deploys an application; returns when its replicas run, also if the proxies are not ready.

    Serve then gives its proxies 60 s, which cannot be set; they go on starting after that.
    """
    try:
        with ray_internals.asking_serve_often(ASK_S):
            serve.run(application, name=name, route_prefix=route_prefix, blocking=False)
    except TimeoutError:
        log.debug("Serve's proxies are late.", exc_info=True)


def run_gateway(gateway: serve.Application, *, name: str) -> None:
    """Deploys the gateway.

    Raises:
        ConfigurationError: it does not start, e.g. because of its custom application.
    """
    try:
        run(gateway, name=name, route_prefix="/")
    except RuntimeError as error:
        log.debug("The gateway could not be deployed.", extra={"reason": _reasons(name)})
        said = (_reasons(name) or str(error)).strip().splitlines()[-1]
        # The last line of a traceback begins with the type.
        raise ConfigurationError(re.sub(r"^[\w.]*Error: ", "", said)) from error


def deploy(name: str, application: serve.Application) -> None:
    """Deploys or replaces an application; returns when it is ready for calls.

    Waits without a limit, because a large model may take minutes to load. After `SLOW_S` it logs
    the reason, which may be a missing GPU.

    Args:
        name: the application's name in Serve.
        application: from `load`.

    Raises:
        ConfigurationError: the application does not start; the message is Serve's reason.
    """
    slow = threading.Timer(SLOW_S, _say_why, (name,))
    slow.daemon = True
    slow.start()
    try:
        run(application, name=name, route_prefix=None)
    except RuntimeError as error:  # Serve raises it when replicas fail to start
        log.debug("An application could not be deployed.", extra={"reason": _reasons(name)})
        # The reason is a traceback; its last line is the exception.
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
