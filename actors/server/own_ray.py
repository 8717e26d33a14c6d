"""The Ray of a server's own, which starts and ends with the server."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

import ray

from actors.calls import ray_internals
from actors.forking.starting import PROGRAM
from actors.server import processes
from actors.server.bounding import bounded
from actors.server.early import Early
from actors.server.local_ray import (
    RAY_DIR_BELOW,
    RAY_DIR_PREFIX,
    logical_cpus,
    logical_memory,
)
from actors.server.patience import until_in_time
from greenroom.core.units import MIB
from greenroom.graphs.configuration import Configuration
from greenroom.machine import adopt_orphans, short_directory
from greenroom.settings import Settings

SHUTDOWN_S = 10.0
DESCENDANTS_GRACE_S = 1.0


class OwnRay:
    """A Ray on this machine.

    Args:
        settings: the server's settings.
        configuration: the configuration, whose placements say how large it has to be.
        early: has the fork server.
    """

    def __init__(self, settings: Settings, configuration: Configuration, early: Early) -> None:
        self._settings = settings
        self._configuration = configuration
        self._early = early
        self._directory: Path | None = None

    def start(self) -> None:
        """Starts it, and connects this process to it.

        Raises:
            ConfigurationError: it does not start within the patience of the settings.
        """
        adopt_orphans()
        others = processes.descendants()

        def clean() -> None:
            bounded(ray.shutdown, SHUTDOWN_S)
            self._early.end_fork_server()  # it knows the Ray that did not start
            processes.end_descendants(DESCENDANTS_GRACE_S, spared=others)
            self._remove_directory()

        until_in_time(
            self._start, what="Ray", patience_s=self._settings.start_patience_s, clean=clean
        )

    def _start(self) -> None:
        settings = self._settings
        # Ray puts Unix sockets below it. It opens its own directory to everybody, so this one,
        # which is closed, is around it.
        self._directory = Path(tempfile.mkdtemp(prefix=RAY_DIR_PREFIX, dir=short_directory()))
        with ExitStack() as stack:
            stack.enter_context(ray_internals.staying_local())
            if not settings.dashboard:
                stack.enter_context(ray_internals.without_unused_processes())
            forks = self._early.fork_server
            if forks is not None and forks.listen(self._directory, settings.start_patience_s):
                stack.enter_context(
                    ray_internals.starting_processes_by(PROGRAM, minimal=not settings.dashboard)
                )
            ray.init(
                num_cpus=logical_cpus(self._configuration, settings),
                _memory=logical_memory(self._configuration, settings),
                object_store_memory=settings.object_store_mib * MIB,
                include_dashboard=settings.dashboard,
                namespace=settings.ray_namespace,
                log_to_driver=False,
                configure_logging=False,
                job_config=ray_internals.job_without_search_path(),
                _temp_dir=str(self._directory / RAY_DIR_BELOW),
                _node_ip_address="127.0.0.1",
            )

    def stop(self) -> None:
        """Ends it and all of its processes, also after a start that failed half-way."""
        self._early.end_fork_server()
        if self._directory is not None:
            # Includes Serve and its proxies: their orderly shutdown would take seconds.
            processes.end_descendants(DESCENDANTS_GRACE_S)
            self._remove_directory()

    def _remove_directory(self) -> None:
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
