"""Watches a project, and has the server execute the next run with its changed code.

a file of code changed             the actors are renewed: `RegistryActor.renew`
the configuration, or code that    all but the database is deployed anew: `Server.redeploy`
the gateway has imported
whatever cannot be loaded          the terminal says why, and the old code goes on
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from watchfiles import Change, DefaultFilter, watch

from greenroom.core.errors import ConfigurationError, GreenroomError
from greenroom.graph_check import GraphCheck
from greenroom.graphs.configuration import Configuration, read_configuration
from greenroom.settings import Settings
from greenroom.terminal import complain, err

log = logging.getLogger(__name__)

CODE = frozenset({".py", ".pyi", ".so"})
TEXTS = frozenset({".json", ".yaml", ".yml", ".toml", ".md", ".txt", ".j2", ".jinja", ".jinja2"})
"""Files that code reads, such as prompts. A node that writes such a file has the code renewed."""
QUIET_MS = 100
"""A change is taken up when no other follows for so long: editors write several files."""
STOP_S = 1.0
SHOWN = 3
OURS = "greenroom.auth:"
"""How the names of ready-made handlers begin: they are no code of the project."""


class Reloadable(Protocol):
    """The interface of `actors.server.server.Server` for changed projects."""

    def renew(self) -> Sequence[str]:
        """Has the next runs executed by the code as it is now; returns why that cannot be."""
        ...

    def redeploy(self, configuration: Configuration) -> None:
        """Takes another configuration.

        Raises:
            GreenroomError: it cannot be served.
        """
        ...


class ProjectFilter(DefaultFilter):
    """Selects files of a project: code, texts, and the configuration with its ``.env``.

    Args:
        config: the configuration file.
        data_dir: the server's own directory.
    """

    def __init__(self, config: Path, data_dir: Path) -> None:
        super().__init__(ignore_paths=[data_dir])
        self._config = config

    def __call__(self, change: Change, path: str) -> bool:
        file = Path(path)
        selected = file.suffix in CODE | TEXTS or is_configuration(file, self._config)
        return selected and super().__call__(change, path)


def is_configuration(file: Path, config: Path) -> bool:
    """Whether a file is the configuration, or may be the ``.env`` that it names."""
    return file == config or file.name == ".env" or file.name.startswith(".env.")


@contextmanager
def reloading(
    settings: Settings, configuration: Configuration, server: Reloadable
) -> Generator[None, None, None]:
    """In the block changes of the project are taken up, in a thread."""
    stop = threading.Event()
    taking_up = TakingUp(settings, configuration, server)
    thread = threading.Thread(target=taking_up.until, args=(stop,), name="reload", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        # A change that is being taken up ends with the server.
        thread.join(STOP_S)


class TakingUp:
    """Takes up the changes of a project.

    Args:
        settings: the server's settings.
        configuration: the configuration that is served.
        server: the server.
    """

    def __init__(
        self, settings: Settings, configuration: Configuration, server: Reloadable
    ) -> None:
        self._settings = settings
        self._configuration = configuration
        self._server = server
        self._config = settings.config.resolve()

    def until(self, stop: threading.Event) -> None:
        """Takes up changes until an event is set."""
        configuration = self._configuration
        roots = [self._config.parent, configuration.root, *configuration.import_paths]
        changes = watch(
            *{root.resolve() for root in roots},
            watch_filter=ProjectFilter(self._config, self._settings.data_dir.resolve()),
            debounce=QUIET_MS,
            step=QUIET_MS // 2,
            stop_event=stop,
            raise_interrupt=False,
        )
        for changed in changes:
            self.take_up(sorted(Path(path) for _, path in changed))

    def take_up(self, files: Sequence[Path]) -> None:
        """Has the server execute the next run with changed files; says on the terminal what it did,
        or why it did not."""
        began_s = time.monotonic()
        what = self._named(files)
        try:
            if self._concerns_more_than_graphs(files):
                if not self._redeploy():
                    return
            else:
                problems = self._server.renew()
                if problems:
                    raise ConfigurationError(" ".join(problems))
        except GreenroomError as error:
            complain(f"{error} The code from before goes on.")
        except Exception as error:  # the next change is another try
            log.debug("A change could not be taken up.", exc_info=True)
            complain(f"{what} could not be taken up: {error} The code from before goes on.")
        else:
            err.print(f"{what}: taken up in {time.monotonic() - began_s:.1f} s", markup=False)

    def _redeploy(self) -> bool:
        """Deploys the configuration as it is now; returns False if that is the one that is served
        and only graphs can have changed.

        Raises:
            GreenroomError: it cannot be served.
        """
        settings = self._settings
        found = read_configuration(settings.config).with_auth(settings.auth)
        if found == self._configuration and not self._imports_in_gateway():
            return False
        with GraphCheck(
            settings.config, tolerant=settings.allow_broken, auth=settings.auth
        ) as check:
            check.refuse_broken(wait=True)
            found = found.with_problems(check.problems())
        self._server.redeploy(found)
        self._configuration = found
        return True

    def _concerns_more_than_graphs(self, files: Iterable[Path]) -> bool:
        if any(is_configuration(file, self._config) for file in files):
            return True
        return self._imports_in_gateway() and any(file.suffix in CODE for file in files)

    def _imports_in_gateway(self) -> bool:
        """Whether the gateway has imported code of the project."""
        configuration = self._configuration
        auth = configuration.auth
        return (
            configuration.http.app is not None
            or configuration.encryption is not None
            or (auth is not None and not auth.target.startswith(OURS))
        )

    def _named(self, files: Sequence[Path]) -> str:
        names = [self._name(file) for file in files[:SHOWN]]
        more = len(files) - SHOWN
        return ", ".join(names) + (f" and {more} more" if more > 0 else "")

    def _name(self, file: Path) -> str:
        root = self._config.parent
        return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)
