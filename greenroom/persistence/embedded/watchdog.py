"""Stops an embedded PostgreSQL when no process needs it any more, also after a kill -9.

It runs as a file, with the standard library only: it must start in milliseconds and need little
memory.

Every process that uses the server holds a shared lock on ``owners``; the kernel takes the lock away
when the process dies for any reason. The watchdog requests the exclusive lock, and gets it when the
last owner is gone. One watchdog is enough, so it holds ``watchdog`` exclusively and a second one
exits at once. An owner that restarts within ``linger_s`` finds the server still running.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import time
from pathlib import Path

FAST_SHUTDOWN = signal.SIGINT
IMMEDIATE_SHUTDOWN = signal.SIGQUIT
PROC = Path("/proc")


def postmaster_pid(data: Path) -> int | None:
    """Returns the process id of the postmaster that runs on ``data``, or None.

    Another process may have the number in ``postmaster.pid`` by now (after a reboot, or in a new
    container, where small numbers return), so the process's directory must be ``data``.
    """
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    try:
        here = os.stat(PROC / str(pid) / "cwd")
    except FileNotFoundError:
        # No such entry: a zombie, gone since, or a system without /proc, where the number must do.
        return None if (PROC / "self").exists() else pid
    except PermissionError:
        # Root in a container without SYS_PTRACE may not read the directory of the server's
        # process; every user may read its command line.
        command = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
        return pid if os.fsencode(data) in command else None
    there = data.stat()
    return pid if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino) else None


def socket_directory(data: Path) -> Path | None:
    """Returns the server's socket directory, if Greenroom made it; None otherwise."""
    try:
        path = Path((data / "postmaster.pid").read_text().split("\n")[4])
    except (OSError, IndexError):
        return None
    return path if path.name.startswith("greenroom-") else None


def stop_postmaster(data: Path, patience_s: float = 30.0) -> None:
    """Shuts the server down fast, or immediately if that takes longer than ``patience_s``."""
    pid = postmaster_pid(data)
    if pid is None:
        return
    sockets = socket_directory(data)
    for sign, patience in ((FAST_SHUTDOWN, patience_s), (IMMEDIATE_SHUTDOWN, 10.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sign)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if postmaster_pid(data) != pid:
                if sockets is not None:
                    with contextlib.suppress(OSError):
                        sockets.rmdir()
                return
            time.sleep(0.01)


def open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def watch(directory: Path, linger_s: float) -> None:
    """Stops the server after its last owner; returns when it has ended."""
    owners = open_lock(directory / "owners")
    while True:
        fcntl.flock(owners, fcntl.LOCK_EX)
        if postmaster_pid(directory / "data") is None:
            return  # stopped on purpose: no server to watch, and no process may be left behind
        # No owner is left. Give a successor (a registry that restarts) the time to come back.
        fcntl.flock(owners, fcntl.LOCK_UN)
        time.sleep(linger_s)
        if try_lock(owners, fcntl.LOCK_EX):
            break
    # Under the lock: a process that starts now waits until the old server is gone, then starts a
    # new one.
    stop_postmaster(directory / "data")


def main() -> None:
    directory, linger_s = Path(sys.argv[1]), float(sys.argv[2])
    alone = open_lock(directory / "watchdog")
    if not try_lock(alone, fcntl.LOCK_EX):
        return
    # The starter waits for this process, so that it leaves no zombie; the child shares the lock.
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    for sign in (signal.SIGINT, signal.SIGHUP):
        signal.signal(sign, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    watch(directory, linger_s)


if __name__ == "__main__":
    main()
