"""The owner of a data directory: one server at a time, proved by a lock that the kernel holds.

A file with a process id goes stale, and the kernel reuses process ids. A record lock does not go
stale: it ends with its process however that ends, and (unlike `flock`) a forked child does not
inherit it. So a lock means that the process named in the file is alive and has written the file.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from greenroom.core.errors import ConfigurationError, GreenroomError
from greenroom.environment import haproxy_dir

FILE_NAME = "server.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """The server that runs in a data directory."""

    pid: int
    url: str


class DirectoryTakenError(ConfigurationError):
    """Another server runs in the data directory."""


@contextmanager
def claim(data_dir: Path, url: str) -> Generator[Owner | None, None, None]:
    """Makes this process the owner of a data directory until the block ends.

    Yields:
        the previous server if it was killed (some of its processes may still be ending), else None.

    Raises:
        DirectoryTakenError: another server owns the directory.
        ConfigurationError: the directory cannot be written.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        file = os.open(data_dir / FILE_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"The data directory {data_dir} cannot be written ({error.strerror});"
            " name another with --data-dir."
        ) from None
    try:
        if not _lock(file):
            raise DirectoryTakenError(
                f"{_name(_read(file))} runs in {data_dir} already: end it with 'greenroom stop',"
                " or give this one its own --data-dir."
            )
        killed = _read(file)
        owner = json.dumps(asdict(Owner(pid=os.getpid(), url=url))).encode()
        os.ftruncate(file, 0)
        os.pwrite(file, owner, 0)
        try:
            yield killed
        finally:
            # Emptied, not unlinked: a process that has opened it would lock a file without a name.
            os.ftruncate(file, 0)
    finally:
        os.close(file)


def running(data_dir: Path) -> Owner | None:
    """Returns the server that runs in a data directory, or None. The server itself must not ask."""
    try:
        file = os.open(data_dir / FILE_NAME, os.O_RDWR)
    except OSError:
        return None
    try:
        return None if _lock(file) else _read(file)
    finally:
        os.close(file)


def stop(data_dir: Path, wait_s: float) -> Owner | None:
    """Asks the server of a data directory to end, and waits for its end.

    Args:
        data_dir: the data directory.
        wait_s: the longest wait in seconds.

    Returns:
        the server that ended, or None if none was running.

    Raises:
        GreenroomError: the server is still running after ``wait_s``.
    """
    owner = running(data_dir)
    if owner is None:
        return None
    with suppress(ProcessLookupError):  # it ended by itself in this moment
        os.kill(owner.pid, signal.SIGTERM)
    end = time.monotonic() + wait_s
    while running(data_dir) == owner:
        if time.monotonic() > end:
            raise GreenroomError(
                f"{_name(owner)} has not ended within {wait_s:g} s; 'kill -9 {owner.pid}' ends it"
                " at once, and its runs go on after the next start."
            )
        time.sleep(0.05)
    return owner


def end_orphans(data_dir: Path) -> list[int]:
    """Kills the proxies that an earlier server of this data directory left behind on its port.

    HAProxy may survive a kill -9 of its server. Once this process owns the directory, every HAProxy
    with the directory's configuration path is such an orphan.

    Returns:
        the ids of the killed processes.
    """
    mark = f"{haproxy_dir(data_dir)}/"
    ended: list[int] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # gone meanwhile, or somebody else's
            program, *words = process.cmdline() or [""]
            if program.endswith("haproxy") and any(word.startswith(mark) for word in words):
                process.kill()
                ended.append(process.pid)
    return ended


def _lock(file: int) -> bool:
    # `running` holds the lock for a moment; a server that starts meanwhile tries again.
    for attempt in range(5):
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            if _read(file) is not None:
                return False
            time.sleep(0.02 * (attempt + 1))
        else:
            return True
    return False


def _read(file: int) -> Owner | None:
    with suppress(ValueError, TypeError):  # empty, or not written to its end yet
        return Owner(**json.loads(os.pread(file, 4096, 0)))
    return None


def _name(owner: Owner | None) -> str:
    return f"The server {owner.url} (process {owner.pid})" if owner else "Another server"
