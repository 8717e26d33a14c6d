"""The program that a server's own Ray starts for each actor and agent, in place of Ray's program.

It asks the fork server for a process that executes Ray's program, and ends when there is one.
Without an answer it executes that program itself. Ray learns the id of an actor's process from that
process, so it may be another process than the one that Ray started.

Ray's raylet waits for its agents, and ends when one of them ends. So the program of an agent lasts
as long as the process that executes it.

There is one for each process, so it imports little: without `json`, `pathlib` and `runpy` it takes
a fifth to a third less.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from importlib.util import find_spec

SOCKET = "fork.sock"
"""The name of the fork server's socket, beside Ray's own directory."""
PATIENCE_S = 120.0
"""How long the fork server may take for an answer; at its first one it imports Ray."""
FORKED = b"forked\n"
"""The answer of a new process. It goes on when it hears `TAKEN`, so no actor is there twice."""
TAKEN = b"taken\n"
MINIMAL = "--minimal"
"""The argument of an agent that does without what the dashboard needs."""
WAITING = "/bin/cat"
"""What waits for the end of an agent: it reads what the agent never writes. It takes no memory."""


def main() -> None:
    agent = len(sys.argv) > 1 and not sys.argv[1].startswith("-")
    program = sys.argv.pop(1) if agent else program_of_ray()
    if agent:
        wait_for_fork(program)
    if agent or not forked(program):
        # As Python prepares a program: its directory comes first in the search path.
        sys.path[0] = os.path.dirname(program)
        execute(program, sys.argv[1:])


def execute(program: str, arguments: list[str]) -> None:
    """Executes a program of Ray in this process.

    Args:
        program: its path.
        arguments: its arguments.
    """
    import runpy

    sys.argv = [program, *arguments]
    if MINIMAL in arguments:
        from actors.calls import ray_internals

        ray_internals.leave_out_dashboard()
    runpy.run_path(program, run_name="__main__")


def program_of_ray() -> str:
    """Returns the path of the program that Ray starts for each actor, without importing Ray."""
    spec = find_spec("ray")
    assert spec is not None
    return os.path.join(
        os.path.dirname(str(spec.origin)), "_private", "workers", "default_worker.py"
    )


def wait_for_fork(program: str) -> None:
    """Becomes a process that lasts as long as a fork that executes a program. Returns if there is
    no fork.

    It keeps the files that the raylet has passed on: the raylet learns of its end by one of them.
    """
    if not os.access(WAITING, os.X_OK):
        return
    reading, writing = os.pipe()
    if forked(program, writing):
        os.dup2(reading, 0)
        os.execv(WAITING, [WAITING])
    os.close(reading)
    os.close(writing)


def forked(program: str, *held: int) -> bool:
    """Asks the fork server for a process that executes a program with this one's arguments,
    environment, and standard input and outputs.

    Args:
        program: the path of the program.
        held: files that the process keeps open until it ends.

    Returns:
        whether there is one.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE_S)
            connection.connect(_address())
            request = {
                "program": program,
                "arguments": sys.argv[1:],
                "environment": dict(os.environ),
                "directory": os.getcwd(),
                "blocked": [int(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
                "niceness": os.getpriority(os.PRIO_PROCESS, 0),
            }
            text = ascii(request).encode() + b"\n"  # `ast.literal_eval` reads it
            sent = socket.send_fds(connection, [text], [0, 1, 2, *held])
            connection.sendall(text[sent:])
            if connection.recv(len(FORKED), socket.MSG_WAITALL) != FORKED:
                return False
            connection.sendall(TAKEN)
            return True
    except OSError:
        return False


def _address() -> str:
    option = "--temp-dir="
    directory = next(each for each in sys.argv if each.startswith(option)).removeprefix(option)
    return os.path.join(os.path.dirname(directory.rstrip("/")), SOCKET)


if __name__ == "__main__":
    main()
