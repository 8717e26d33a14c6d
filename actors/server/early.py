"""What a server starts before it imports Ray: its database and its fork server.

They take as long as that import, so this module does not import Ray.
"""

from __future__ import annotations

import threading

from actors.forking.starting import ForkServer
from actors.setups import embedded_directory
from greenroom.graphs.configuration import Configuration
from greenroom.machine import can_fork
from greenroom.persistence.embedded import Embedded, start_embedded
from greenroom.settings import Settings


class Early:
    """The embedded database and the fork server of a server, as far as it has them.

    Both start at once, in the background.

    Args:
        settings: the server's settings.
        configuration: the server's configuration.
    """

    def __init__(self, settings: Settings, configuration: Configuration) -> None:
        self._settings = settings
        self._configuration = configuration
        self.fork_server: ForkServer | None = None
        self._embedded: Embedded | None = None
        self._failure: BaseException | None = None
        self._starting: threading.Thread | None = None
        # Applications of a project change the environment, which all forks have.
        if not configuration.applications:
            self.start_fork_server()
        if settings.database_url is None:
            self._starting = threading.Thread(target=self._start_database, daemon=True)
            self._starting.start()

    def start_fork_server(self) -> None:
        """Starts the fork server, where processes of a Ray of the server's own are to be forked."""
        settings = self._settings
        if settings.ray_address is None and settings.fork_processes and can_fork():
            self.fork_server = ForkServer(
                without=self._configuration.webhooks.variables,
                with_serve=not self._configuration.applications,
            )

    def database(self) -> Embedded:
        """Waits for the embedded database; only where the settings name no other one.

        Raises:
            ConfigurationError: it cannot be started.
        """
        assert self._starting is not None
        self._starting.join()
        if self._failure is not None:
            raise self._failure
        assert self._embedded is not None
        return self._embedded

    def end_fork_server(self) -> None:
        """Ends the fork server; the processes that it made stay."""
        if self.fork_server is not None:
            self.fork_server.stop()
            self.fork_server = None

    def stop(self) -> None:
        """Ends both."""
        self.end_fork_server()
        if self._starting is not None:
            self._starting.join()
        if self._embedded is not None:
            self._embedded.stop()

    def _start_database(self) -> None:
        try:
            self._embedded = start_embedded(embedded_directory(self._settings))
        except BaseException as error:  # noqa: BLE001 who waits for the database raises it
            self._failure = error
