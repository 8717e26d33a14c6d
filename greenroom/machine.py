"""What differs between machines: what only Linux has, each with a fallback, and what is scarce.

Nothing else here may use ``/proc``, ``prctl`` or a pidfd (`tests/test_machine.py` reads every
module), except the watchdog of the embedded database, which is a program of its own with the
standard library only. psutil is imported by the fallbacks only: most processes never need it.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import os
import platform
import re
import resource
import select
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from greenroom.core.errors import ConfigurationError

PROC = Path("/proc")
DESCRIPTORS = Path("/dev/fd")
"""Where macOS lists the descriptors of the process that looks."""
PR_SET_CHILD_SUBREAPER = 36

LOOK_S = 0.05

NICENESS = 15
"""Of processes with user code: what Ray gives to every process."""

SHORT_BYTES = 12
"""The longest path below which all sockets fit: HAProxy permits 97 bytes, and Serve takes 57."""
SHORT = ("/tmp", "/var/tmp")

MOST_FILES = 65_536
"""Raised no further: some programs go through all numbers up to the limit."""
FILES_OF_MACOS = 10_240
"""What macOS permits a process although its hard limit says more."""


class ResidentMemory:
    """The resident memory of this process.

    On Linux it reads a file that it keeps open, so that it works when no descriptor is left.
    """

    def __init__(self) -> None:
        try:
            self._statm = os.open(PROC / "self" / "statm", os.O_RDONLY)
        except OSError:
            import psutil

            self._statm = -1
            self._process = psutil.Process()

    def bytes(self) -> int:
        """Returns the bytes.

        Raises:
            OSError: somebody has closed the file.
        """
        if self._statm < 0:
            return self._process.memory_info().rss
        return int(os.pread(self._statm, 200, 0).split()[1]) * resource.getpagesize()


def return_free_pages() -> None:
    """Returns the pages that the C library has freed to the system; does nothing where it cannot.

    The interpreter is not held meanwhile.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)


def process_table() -> str:
    """Identifies the table in which the id of this process counts.

    Processes with the same table see each other; containers of one machine have tables of their
    own. Without ``/proc`` it is the name of the machine.
    """
    try:
        boot = (PROC / "sys" / "kernel" / "random" / "boot_id").read_text().strip()
        return f"{boot}:{os.readlink(PROC / 'self' / 'ns' / 'pid')}"
    except OSError:
        return platform.node()


def shared_file(name: str) -> int:
    """Returns the descriptor of a file in memory that grows at its end; -1 where there are none.

    A process with the same table of processes opens it with `open_shared_file`.
    """
    if not hasattr(os, "memfd_create"):
        return -1
    descriptor = os.memfd_create(name)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_APPEND)
    return descriptor


def open_shared_file(pid: int, descriptor: int, name: str) -> int:
    """Opens the `shared_file` of another process, to read and to empty it.

    Raises:
        OSError: there is no such process any more, or its file is another one.
    """
    path = PROC / str(pid) / "fd" / str(descriptor)
    if name not in os.readlink(path):
        raise FileNotFoundError(f"Process {pid} has another file there.")
    return os.open(path, os.O_RDWR)


def descriptors() -> Iterator[int]:
    """The open descriptors of this process; one may be closed by the time that it is used.

    None where the system lists them nowhere.
    """
    for folder in (PROC / "self" / "fd", DESCRIPTORS):
        with contextlib.suppress(OSError):
            yield from [int(name) for name in os.listdir(folder)]
            return


def reserve(name: str) -> bool:
    """Reserves a name among the processes of this machine, until this process ends.

    Returns:
        False if the name is reserved already. Only Linux has such names; elsewhere always True.
    """
    if sys.platform != "linux":
        return True
    held = socket.socket(socket.AF_UNIX)
    try:
        held.bind(f"\0greenroom: {name}")
    except OSError:
        held.close()
        return False
    atexit.register(held.close)
    return True


def own_threads() -> int:
    """Returns how many threads this process has, those of libraries included; on Linux only."""
    return len(os.listdir(PROC / "self" / "task"))


def can_fork() -> bool:
    """Whether a process that has imported libraries may fork and go on; on Linux only.

    macOS forbids it to the libraries that nearly every program has.
    """
    return sys.platform == "linux"


def give_way() -> None:
    """Lets this process, and those that it starts, have a CPU after processes that answer.

    With it nodes that compute on all CPUs delay nobody's answers, streams and cancels.
    """
    threads = [0]
    with contextlib.suppress(OSError):  # on Linux niceness is a thread's
        threads = [int(name) for name in os.listdir(PROC / "self" / "task")]
    for thread in threads:
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            if os.getpriority(os.PRIO_PROCESS, thread) < NICENESS:
                os.setpriority(os.PRIO_PROCESS, thread, NICENESS)


def adopt_orphans() -> bool:
    """Makes orphaned descendants children of this process; on Linux only.

    Returns:
        whether it did.
    """
    if sys.platform != "linux":
        return False
    return ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def wait_until_one_ends(pids: Sequence[int], limit_s: float) -> bool:
    """Returns when one of the processes has ended, or after ``limit_s``; whether one has.

    On Linux the kernel reports the end at once; elsewhere psutil looks again and again.
    """
    if not hasattr(os, "pidfd_open"):
        return _look_until_one_ends(pids, limit_s)
    with contextlib.ExitStack() as opened:
        poll = select.poll()
        for pid in pids:
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                return True
            opened.callback(os.close, descriptor)
            poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(limit_s * 1000))


def _look_until_one_ends(pids: Sequence[int], limit_s: float) -> bool:
    import psutil

    deadline_s = time.monotonic() + limit_s
    # Not `psutil.wait_procs`: it would take the exit status of a child away from its `Popen`.
    with contextlib.suppress(psutil.NoSuchProcess):
        processes = [psutil.Process(pid) for pid in pids]
        while all(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes):
            if time.monotonic() >= deadline_s:
                return False
            time.sleep(LOOK_S)
    return True


def effective_capabilities() -> int | None:
    """Returns the capabilities of this process as bits; None where nothing shows them."""
    with contextlib.suppress(OSError):
        status = (PROC / "self" / "status").read_text()
        if found := re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.M):
            return int(found[1], 16)
    return None


def short_directory() -> Path:
    """Returns a writable directory for temporary files, with a path that Unix sockets fit below.

    The temporary directory (``TMPDIR``) if its path is short, else ``/tmp`` or ``/var/tmp``.

    Raises:
        ConfigurationError: none of them can be written.
    """
    named = os.environ.get("TMPDIR") or tempfile.gettempdir()
    for base in (named, *SHORT):
        short = os.path.isabs(base) and len(os.fsencode(base)) <= SHORT_BYTES
        if short and os.path.isdir(base) and os.access(base, os.W_OK | os.X_OK):
            return Path(base)
    raise ConfigurationError(
        f"A server needs a directory for its sockets, and {' and '.join(SHORT)} cannot be written:"
        f" name one in TMPDIR with a path of at most {SHORT_BYTES} bytes"
        f"{f', other than {named}' if named not in SHORT else ''}."
    )


def raise_open_files() -> int:
    """Raises the limit of open files of this process, which its children inherit, to what it may.

    Returns:
        the limit that holds now.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    for wanted in (most, FILES_OF_MACOS):
        if soft == resource.RLIM_INFINITY or wanted <= soft:
            break
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            break
    return open_files()


def open_files() -> int:
    """Returns the limit of open files of this process."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_FILES if soft == resource.RLIM_INFINITY else soft
