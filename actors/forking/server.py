"""The process that imports everything once, and of which the processes of actors are forks.

It has a single thread: a fork has only the thread that forked, and locks that another one held
would stay locked. So it imports, listens and forks, and calls nothing that starts a thread; if an
import does, it ends, and actors start without it.

Imports happen in two steps, because Ray's library reads the environment while it is loaded: what
a raylet sets for its processes is known when the first of them asks.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from actors.forking.program import FORKED, TAKEN, execute, program_of_ray
from greenroom.late_imports import import_less
from greenroom.machine import own_threads

READY = b"ready\n"
HEARING_S = 10.0
"""How long a program may take to say what it needs."""
BEFORE_RAY = (
    "fastapi",
    "httpx",
    "langchain_core.messages",
    "langgraph.checkpoint.postgres.aio",
    "langgraph.graph",
    "langgraph.pregel",
    "psycopg_pool",
    "uvicorn",
    "greenroom.environment",
    "greenroom.graphs.execution",
    "greenroom.http.app",
    "greenroom.logs",
    "greenroom.persistence.crons",
    "greenroom.persistence.migrations",
    "greenroom.persistence.ordered_writes",
    "greenroom.persistence.outbox",
    "greenroom.persistence.records",
    "greenroom.persistence.store",
    "greenroom.persistence.upkeep",
)
"""The modules that do not import Ray."""
WITH_RAY = (
    "ray",
    "ray._private.async_compat",
    "ray._private.node",
    "ray._private.parameter",
    "ray._private.ray_logging",
    "ray._private.runtime_env.setup_hook",
    "ray._private.worker",
    "actors.inspector.actor",
    "actors.registry.actor",
    "actors.run.actor",
)
WITH_SERVE = (
    "ray.serve",
    "ray.serve._private.controller",
    "ray.serve._private.haproxy",
    "ray.serve._private.proxy",
    "ray.serve._private.replica",
    "actors.gateway.deployment",
    "actors.gateway.replica",
    "greenroom.http.app",
)
"""The modules of Serve's processes. They are left to those processes where a project has
applications of its own: Serve would not know how to encode what these answer."""
OPTIONAL_OF_SERVE = ("pandas",)
"""What Serve imports if it is there, only to encode the answers of applications; 40 MiB."""
THREADS = "OMP_NUM_THREADS"
"""How many threads numpy has, which Serve imports. Ray sets it to an actor's CPUs, when it knows
them; `actors.forking.threads` follows that."""
OWN_JOB = "RAY_JOB_ID"
NODE = "RAY_NODE_ID"
"""Of an agent alone, which reads it when it runs."""
TITLE = "SPT_NOENV"
"""Tells the library that changes titles of processes to spare the environment; Ray sets it."""
ANY_JOB = "ffffffff"
"""The job of a process that Ray starts before it knows for which job; Ray says it later."""


class Forks:
    """Answers the programs that one Ray starts.

    Args:
        with_serve: whether the modules of Serve's processes are imported too.
    """

    def __init__(self, *, with_serve: bool) -> None:
        self._with_serve = with_serve
        self._own = dict(os.environ)
        self._of_ray: dict[str, str] | None = None

    def answer(self, connection: socket.socket) -> dict[str, Any] | None:
        """Forks for a program, if it would read the environment that this process has read.

        Returns:
            the request of the program, in the new process; None in this one.
        """
        connection.settimeout(HEARING_S)
        request, files = _hear(connection)
        try:
            if request is None or not self._fits(request["environment"]):
                return None
            if not _forked():
                return None
            _become(connection, request, files)
            return request
        finally:
            for file in files:
                os.close(file)

    def _fits(self, environment: Mapping[str, str]) -> bool:
        """Whether modules that read their environment would read the same."""
        if _not_of_ray(environment) != _not_of_ray(self._own):
            return False
        of_ray = {
            name: value
            for name, value in environment.items()
            if name.startswith("RAY_") and name not in (OWN_JOB, NODE)
        }
        if self._of_ray is None:
            os.environ |= {**of_ray, OWN_JOB: ANY_JOB}
            os.environ.setdefault(THREADS, "1")
            import_ray(with_serve=self._with_serve)
            refuse_threads()
            refuse_twins()
            gc.freeze()
            self._of_ray = of_ray
        return of_ray == self._of_ray


def import_modules(names: Iterable[str]) -> None:
    """Imports modules; one that fails is left to the actors, which then say why."""
    for name in names:
        try:
            importlib.import_module(name)
        except Exception:  # noqa: BLE001 a module may raise anything
            traceback.print_exc()


@contextlib.contextmanager
def hidden(names: Iterable[str]) -> Iterator[None]:
    """Lets modules look as if they were not installed, for imports in this block."""
    absent = [name for name in names if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # pyright: ignore[reportArgumentType]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def import_ray(*, with_serve: bool) -> None:
    """Imports what imports Ray."""
    from actors.calls import ray_internals

    with ray_internals.classes_without_chance():
        import_modules(WITH_RAY)
        if with_serve:
            with hidden(OPTIONAL_OF_SERVE):
                import_modules(WITH_SERVE)


def refuse_threads() -> None:
    """Ends this process if it has more than one thread."""
    threads = own_threads()
    if threads > 1:
        sys.exit(f"an import has started {threads - 1} threads; actors start without forks")


def refuse_twins() -> None:
    """Ends this process if two forks of it would choose the same random ids."""
    first, second = (_chosen_by_a_fork() for _ in range(2))
    if set(first) & set(second):
        sys.exit("an import has used up what is random in a fork; actors start without forks")


def _chosen_by_a_fork() -> list[str]:
    reading, writing = os.pipe()
    if os.fork() == 0:
        _renew_chance()
        os.write(writing, "\n".join(_choices()).encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as chosen:
        return chosen.read().splitlines()


def _choices() -> list[str]:
    import random
    import uuid

    import uuid_utils

    from actors.calls import ray_internals

    choices = [ray_internals.random_id().hex(), str(random.random())]
    choices += [str(each) for each in (uuid.uuid4(), uuid_utils.uuid4(), uuid_utils.uuid7())]
    numpy = sys.modules.get("numpy")
    return choices if numpy is None else [*choices, str(numpy.random.random())]


def _renew_chance() -> None:
    """Seeds the generator of numpy anew; that of Python is seeded by each fork."""
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()


def _not_of_ray(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith("RAY_") and name != TITLE
    }


def _hear(connection: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    files: list[int] = []
    try:
        text, files, _, _ = socket.recv_fds(connection, 1 << 20, 4)
        while not text.endswith(b"\n"):
            more = connection.recv(1 << 20)
            if not more:
                return None, files
            text += more
        return ast.literal_eval(text.decode()), files
    except OSError:
        return None, files


def _forked() -> bool:
    """Forks; returns whether this is the new process."""
    try:
        return os.fork() == 0
    except OSError:  # the machine has no process or no memory left
        traceback.print_exc()
        return False


def _become(connection: socket.socket, request: Mapping[str, Any], files: list[int]) -> None:
    """Gives a new process what Ray gave the program that asked for it."""
    try:
        # Who asked may have lost patience, and execute Ray's program itself by now.
        connection.sendall(FORKED)
        if connection.recv(len(TAKEN), socket.MSG_WAITALL) != TAKEN:
            os._exit(0)
    except OSError:
        os._exit(0)
    os.setpgid(0, 0)
    os.setpriority(os.PRIO_PROCESS, 0, request["niceness"])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
    for number in range(3):
        os.dup2(files[number], number)
    for held in files[3:]:
        os.dup(held)  # those that came are closed
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["directory"])
    _renew_chance()
    gc.enable()


def main(arguments: list[str]) -> None:
    """Listens where standard input says, until standard input ends.

    Args:
        arguments: ``--without-serve`` leaves the modules of Serve's processes out.
    """
    # A terminal sends its Ctrl-C to all its processes; this one ends with standard input.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    gc.disable()
    import_less()
    sys.path[0] = str(Path(program_of_ray()).parent)  # as where Ray's program is executed
    forks = Forks(with_serve="--without-serve" not in arguments)
    import_modules(BEFORE_RAY)
    refuse_threads()
    address = sys.stdin.buffer.readline().decode().strip()
    if not address:
        return
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(256)
        os.write(1, READY)
        request = _serve(listener, forks)
    if request is not None:
        execute(request["program"], request["arguments"])


def _serve(listener: socket.socket, forks: Forks) -> dict[str, Any] | None:
    """Answers programs until standard input ends; in each new process it returns the request."""
    while True:
        readable, _, _ = select.select([listener, 0], [], [])
        if 0 in readable:
            return None
        connection, _ = listener.accept()
        with connection:
            request = forks.answer(connection)
        if request is not None:
            return request


if __name__ == "__main__":
    main(sys.argv[1:])
