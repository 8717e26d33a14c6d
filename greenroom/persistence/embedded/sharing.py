"""A process's share in the embedded server, which runs as long as any process has a share."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

from greenroom.core.errors import ConfigurationError
from greenroom.persistence.embedded import watchdog
from greenroom.persistence.embedded.programs import reason
from greenroom.persistence.embedded.starting import (
    dsn_over,
    socket_directory_in_use,
    start,
    wait_until_ready,
)


@dataclass(frozen=True, slots=True)
class Embedded:
    """A running embedded server and this process's share in it.

    The server runs until `stop`, or until the last process that started or attached to it has
    ended or called `release`.
    """

    directory: Path
    dsn: str
    _owner: list[int] = field(repr=False)
    """The descriptor of the lock; empty after `release`, when another file may reuse its number."""

    def stop(self) -> None:
        """Stops the server, even if other processes use it, and waits for its end. Idempotent."""
        with _locked(self.directory / "start"):
            watchdog.stop_postmaster(self.directory / "data")
        self.release()

    def release(self) -> None:
        """Gives up this process's share. After the last share, the watchdog stops the server.

        Idempotent, also from several threads.
        """
        with contextlib.suppress(IndexError):
            os.close(self._owner.pop())


def start_embedded(directory: Path, *, linger_s: float = 10.0) -> Embedded:
    """Starts the server of ``directory``, or attaches to it when it is running.

    Safe when several processes call it at once. Takes about a second the first time, 0.3 s to
    start an existing database, milliseconds to attach. Blocks: call it from a thread.

    Args:
        directory: the directory of the database; created if it does not exist.
        linger_s: how long the server runs after its last owner ended, in seconds, so that an owner
            that restarts finds it running. The process that starts the watchdog sets it.

    Raises:
        ConfigurationError: the server cannot run here; the message names the reason and the remedy.
    """
    directory = _make_directory(directory)
    owner = watchdog.open_lock(directory / "owners")
    try:
        # Waits while a watchdog stops a server whose owners are gone.
        fcntl.flock(owner, fcntl.LOCK_SH)
        with _locked(directory / "start"):
            if watchdog.postmaster_pid(directory / "data") is None:
                start(directory)
            else:
                wait_until_ready(directory)
            try:
                _ensure_watchdog(directory, linger_s)
            except BaseException:  # also Ctrl-C: otherwise the server would run for ever
                watchdog.stop_postmaster(directory / "data")
                raise
        return Embedded(directory, dsn_over(socket_directory_in_use(directory)), [owner])
    except OSError as error:
        os.close(owner)
        raise ConfigurationError(
            f"PostgreSQL cannot be started in {directory} ({reason(error)}"
            f"{f' at {error.filename}' if error.filename else ''}): choose another directory, run "
            f"Greenroom as another user, or give a database URL."
        ) from error
    except BaseException:  # also Ctrl-C: the opened lock is closed
        os.close(owner)
        raise


def _make_directory(directory: Path) -> Path:
    directory = directory.expanduser().absolute()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        directory = directory.resolve()
        os.close(watchdog.open_lock(directory / "start"))
    except OSError as error:
        raise ConfigurationError(
            f"The database directory {directory} cannot be used ({reason(error)}): "
            f"choose one that this user can write to, or give a database URL."
        ) from error
    return directory


@contextlib.contextmanager
def _locked(path: Path) -> Generator[None, None, None]:
    fd = watchdog.open_lock(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _ensure_watchdog(directory: Path, linger_s: float) -> None:
    probe = watchdog.open_lock(directory / "watchdog")
    try:
        if not watchdog.try_lock(probe, fcntl.LOCK_EX):
            return
    finally:
        os.close(probe)
    # -I -S: no user code, no site-packages; it needs nothing but the standard library.
    command = [sys.executable, "-I", "-S", watchdog.__file__, str(directory), str(linger_s)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
