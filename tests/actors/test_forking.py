"""A forked process is what a new one would have been, only sooner."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from actors.forking import server, threads
from actors.forking.program import FORKED, SOCKET, WAITING
from actors.forking.starting import PROGRAM, ForkServer
from tests.waiting import until_without_loop

# pytest changes its variables with each test.
CHANGING = [name for name in os.environ if name.startswith("PYTEST_")] + ["PYTEST_CURRENT_TEST"]


def environment_with(more: Mapping[str, str]) -> dict[str, str]:
    same = {name: text for name, text in os.environ.items() if name not in CHANGING}
    return {**same, **more}


SHOWING = """
import json, os, random, signal, sys, uuid
import uuid_utils
shown = {
    "name": __name__,
    "arguments": sys.argv,
    "environment": dict(os.environ),
    "directory": os.getcwd(),
    "path": sys.path,
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "children": int(signal.getsignal(signal.SIGCHLD)),
    "interrupt": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
    "niceness": os.getpriority(os.PRIO_PROCESS, 0),
    "files": len(os.listdir("/proc/self/fd")),
    "threads": len(os.listdir("/proc/self/task")),
    "leads": os.getpgid(0) == os.getpid(),
}
chance = [random.random(), str(uuid.uuid4()), str(uuid_utils.uuid7()), str(uuid_utils.uuid4())]
if "ray" in sys.modules:
    from ray._raylet import ObjectID
    chance.append(ObjectID.from_random().hex())
if "numpy" in sys.modules:
    import numpy
    chance.append(numpy.random.random())
libraries = ("langgraph", "ray", "ray.serve", "numpy", "pandas")
loaded = [each for each in libraries if each in sys.modules]
print(json.dumps([shown, chance, loaded, os.getppid()]), flush=True)
"""
"""A program in the place of Ray's."""


@pytest.fixture(scope="module")
def room() -> Iterator[Path]:
    # Short: it has the path of a Unix socket.
    with tempfile.TemporaryDirectory(prefix="gr-fork-", dir="/tmp") as directory:
        place = Path(directory)
        (place / "showing.py").write_text(SHOWING)
        yield place


@pytest.fixture(scope="module")
def fork_server(room: Path) -> Iterator[ForkServer]:
    started = ForkServer(without=CHANGING, with_serve=True)
    try:
        assert started.listen(room, limit_s=120)
        yield started
    finally:
        started.stop()


def ask(room: Path, *arguments: str, **environment: str) -> list[Any]:
    """What the program says of itself, started as Ray starts its program."""
    asking = (
        "import os, sys; from actors.forking import program;"
        "sys.exit(0 if program.forked(os.environ.pop('PROGRAM_OF_TEST')) else 3)"
    )
    shown = room / "shown"
    with shown.open("w") as output:
        ended = subprocess.run(
            [sys.executable, "-c", asking, f"--temp-dir={room / 'r'}", *arguments],
            env={**environment_with(environment), "PROGRAM_OF_TEST": str(room / "showing.py")},
            stdout=output,
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,)),
            timeout=240,
        )
    if ended.returncode == 3:
        return []
    return json.loads(until_without_loop(shown.read_text))


def start_new(room: Path, *arguments: str, **environment: str) -> list[Any]:
    """What the program says in a new interpreter."""
    return json.loads(
        subprocess.run(
            [sys.executable, str(room / "showing.py"), f"--temp-dir={room / 'r'}", *arguments],
            env=environment_with(environment),
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,)),
            stdout=subprocess.PIPE,
            process_group=0,
            timeout=240,
        ).stdout
    )


OF_RAY = {"RAY_RAYLET_PID": "1", "RAY_JOB_ID": "01000000"}


def without_own_directories(shown: Mapping[str, Any]) -> dict[str, Any]:
    """Without the directories of the program and of Ray, which comes first once it is imported."""
    own = [each for each in shown["path"] if "/ray/" not in each and "gr-fork-" not in each]
    return {**shown, "path": own}


def test_a_fork_has_what_a_new_process_would_have(room: Path, fork_server: ForkServer) -> None:
    forked, _, loaded, parent = ask(room, "--x=1", "two words", **OF_RAY)
    fresh, _, nothing, _ = start_new(room, "--x=1", "two words", **OF_RAY)
    assert without_own_directories(forked) == without_own_directories(fresh)
    assert (loaded, nothing) == (["langgraph", "ray", "ray.serve", "numpy"], [])
    assert "forking/server.py" in " ".join(psutil.Process(parent).cmdline())
    assert psutil.Process(parent).num_threads() == 1


def test_forks_share_no_chance(room: Path, fork_server: ForkServer) -> None:
    first, second = (ask(room, **OF_RAY)[1] for _ in range(2))
    assert len(first) == 6
    assert not set(first) & set(second)


@pytest.mark.parametrize("name", ["RAY_JOB_ID", "RAY_NODE_ID"])
def test_what_a_raylet_says_of_one_process_may_differ(
    room: Path, fork_server: ForkServer, name: str
) -> None:
    shown, *_ = ask(room, **{**OF_RAY, name: "ffffffff"})
    assert shown["environment"][name] == "ffffffff"


AGENT = """
import json, os, sys
print(json.dumps([sys.argv, os.getpid(), os.getppid(), __name__]), flush=True)
sys.stdin.read()  # as Ray's agents: until the raylet's end of the pipe is closed
"""


@contextlib.contextmanager
def started_agent(
    folder: Path, *arguments: str
) -> Iterator[tuple[subprocess.Popen[str], list[Any]]]:
    """What a raylet starts for an agent, and what the agent says of itself."""
    agent = folder / "agent.py"
    agent.write_text(AGENT)
    with subprocess.Popen(
        [sys.executable, PROGRAM, str(agent), *arguments],
        env=environment_with(OF_RAY),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        assert started.stdout is not None
        yield started, json.loads(started.stdout.readline())


@pytest.mark.parametrize("forks", [True, False])
def test_what_ray_starts_for_an_agent_lasts_as_long_as_the_agent(
    room: Path, fork_server: ForkServer, tmp_path: Path, forks: bool
) -> None:
    assert ask(room, **OF_RAY)
    given = [f"--temp-dir={(room if forks else tmp_path) / 'r'}", "--x=1"]
    with started_agent(tmp_path, *given) as (started, (arguments, pid, parent, name)):
        assert (arguments[1:], name) == (given, "__main__")
        assert arguments[0] == str(tmp_path / "agent.py")
        assert (parent == fork_server.pid) is forks
        assert (pid == started.pid) is not forks
        assert started.poll() is None
        if forks:
            assert psutil.Process(started.pid).exe() == os.path.realpath(WAITING)
            psutil.Process(pid).kill()
        else:
            assert started.stdin is not None
            started.stdin.close()
        assert started.wait(60) == 0


def test_an_agent_ends_with_its_raylet(room: Path, fork_server: ForkServer, tmp_path: Path) -> None:
    assert ask(room, **OF_RAY)
    with started_agent(tmp_path, f"--temp-dir={room / 'r'}") as (started, (_, pid, *_)):
        assert psutil.Process(pid).is_running()
        assert started.stdin is not None
        started.stdin.close()
        assert started.wait(60) == 0
    until_without_loop(lambda: not psutil.pid_exists(pid))


@pytest.mark.parametrize(
    "other", [{"LANGGRAPH_STRICT_MSGPACK": "true"}, {"RAY_RAYLET_PID": "2"}, {"PYTHONPATH": "/x"}]
)
def test_what_modules_read_at_their_import_makes_a_new_process(
    room: Path, fork_server: ForkServer, other: dict[str, str]
) -> None:
    assert ask(room, **OF_RAY)
    assert ask(room, **{**OF_RAY, **other}) == []


def test_without_a_fork_server_there_is_no_fork(tmp_path: Path) -> None:
    assert ask(tmp_path, **OF_RAY) == []


def test_who_left_before_the_answer_is_not_there_twice(room: Path, fork_server: ForkServer) -> None:
    assert ask(room, **OF_RAY)
    request = {
        "program": str(room / "marking.py"),
        "arguments": [],
        "environment": environment_with(OF_RAY),
        "directory": str(room),
        "blocked": [],
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
    }
    mark = room / "mark"
    Path(request["program"]).write_text(f"open({str(mark)!r}, 'w').close()")
    until_without_loop(lambda: not children_of(fork_server))
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(room / SOCKET))
        socket.send_fds(connection, [ascii(request).encode() + b"\n"], [0, 1, 2])
        assert connection.recv(len(FORKED), socket.MSG_WAITALL) == FORKED
        (fork,) = children_of(fork_server)
    until_without_loop(lambda: not children_of(fork_server))
    assert not fork.is_running()
    assert not mark.exists()


def children_of(fork_server: ForkServer) -> list[psutil.Process]:
    return psutil.Process(fork_server.pid).children()


def test_half_a_request_is_dropped(room: Path, fork_server: ForkServer) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(room / SOCKET))
        connection.sendall(b'{"program": ')
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert ask(room, **OF_RAY)


def test_it_ends_with_its_starter(room: Path) -> None:
    starting = (
        "import time; from actors.forking.starting import ForkServer;"
        "print(ForkServer(without=(), with_serve=False).pid, flush=True); time.sleep(300)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", starting], stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        process = psutil.Process(int(starter.stdout.readline()))
        starter.kill()
    until_without_loop(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)


def test_forks_that_would_choose_the_same_are_refused() -> None:
    """Ray gives each class of an actor a random id, and seeds its generator for that."""
    trying = (
        "import ray\n"
        "from actors.forking import server\n"
        "class Kept: pass\n"
        "from actors.calls import ray_internals\n"
        "with ray_internals.classes_without_chance(): ray.remote(Kept)\n"
        "server.refuse_twins(); print('apart', flush=True)\n"
        "ray.remote(Kept)\n"
        "server.refuse_twins()"
    )
    tried = subprocess.run([sys.executable, "-c", trying], capture_output=True, text=True)
    assert tried.stdout == "apart\n"
    assert "random in a fork" in tried.stderr
    assert tried.returncode == 1


def test_a_library_that_starts_a_thread_is_refused() -> None:
    trying = (
        "import threading; from actors.forking import server\n"
        "server.refuse_threads()\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "server.refuse_threads()"
    )
    tried = subprocess.run([sys.executable, "-c", trying], capture_output=True, text=True)
    assert "an import has started 1 threads" in tried.stderr
    assert tried.returncode == 1


def test_what_is_hidden_can_be_imported_later() -> None:
    name = "colorsys"
    sys.modules.pop(name, None)
    with server.hidden([name]), pytest.raises(ModuleNotFoundError):
        __import__(name)
    assert __import__(name)


def test_numpy_has_the_threads_of_the_actor() -> None:
    """In a process of its own, since it changes numpy for all tests."""
    following = (
        "import os; os.environ['OMP_NUM_THREADS'] = '1'\n"
        "import numpy\n"
        "from threadpoolctl import threadpool_info\n"
        "from actors.forking.threads import follow_environment\n"
        "os.environ['OMP_NUM_THREADS'] = '3'; follow_environment()\n"
        "print({each['num_threads'] for each in threadpool_info()})"
    )
    shown = subprocess.run([sys.executable, "-c", following], stdout=subprocess.PIPE, text=True)
    assert shown.stdout.strip() == "{3}"
    assert threads.THREADS == "OMP_NUM_THREADS"
