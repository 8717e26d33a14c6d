"""Small and strange machines: what only Linux has is hidden, what is scarce is made scarcer."""

from __future__ import annotations

import ast
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.server.haproxy_failure import haproxy_failure
from actors.server.local_ray import RAY_DIR_BELOW
from greenroom import environment, machine
from greenroom.checks import LEAST_FILES, check_open_files
from greenroom.core.errors import ConfigurationError
from greenroom.environment import (
    HAPROXY_CONNECTIONS,
    REQUESTS_AT_ONCE,
    apply_ray_environment,
    haproxy_connections,
    haproxy_dir,
)
from greenroom.http.sending import break_connection
from greenroom.persistence.embedded import watchdog
from greenroom.running import few_connections
from greenroom.settings import Settings
from tests.test_layers import modules

ROOT = Path(__file__).parent.parent
BOUND_S = 20.0

LINUX_ALONE = (
    *("/proc", "prctl", "pidfd_open", "sched_getaffinity", "sched_setaffinity", "epoll"),
    *("eventfd", "inotify", "abstract", "SO_BINDTODEVICE", "SO_PEERCRED", "O_PATH", "O_TMPFILE"),
    *("memfd_create", "close_range", "/sys/fs", "/dev/shm"),
)
NAMES_OF_HOSTS = ("gethostname", "gethostbyname", "getfqdn", "gethostbyaddr", "nodename")
HOMES = {"greenroom.machine", "greenroom.persistence.embedded.watchdog"}


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hides what only Linux has, as far as our own code looks at it."""
    monkeypatch.setattr(machine, "PROC", tmp_path / "no-proc")
    monkeypatch.setattr(watchdog, "PROC", tmp_path / "no-proc")
    monkeypatch.delattr(os, "pidfd_open", raising=False)


@pytest.fixture(params=["linux", "hidden"])
def any_system(request: pytest.FixtureRequest) -> None:
    if request.param == "hidden":
        request.getfixturevalue("hidden")


# --- what only Linux has --------------------------------------------------------------------------


def words(tree: ast.Module) -> set[str]:
    """The names and the texts of a module that are executed, so no docstrings."""
    docs = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
        ):
            found.add(node.value)
    return found


def test_what_only_linux_has_stands_in_one_module() -> None:
    used = {
        (name, word)
        for name, file in modules()
        if name not in HOMES
        for text in words(ast.parse(file.read_text(encoding="utf-8")))
        for word in LINUX_ALONE
        if text == word or (word.startswith("/") and text.startswith(f"{word}/"))
    }
    assert used == set()


def test_nobody_asks_for_the_name_of_this_machine() -> None:
    """It may not resolve."""
    used = {
        (name, word)
        for name, file in modules()
        for word in words(ast.parse(file.read_text(encoding="utf-8"))) & set(NAMES_OF_HOSTS)
    }
    assert used == set()


@pytest.mark.usefixtures("any_system")
def test_memory_is_measured_on_any_system() -> None:
    memory = machine.ResidentMemory()
    before = memory.bytes()
    taken = bytearray(os.urandom(1 << 20) * 64)
    assert memory.bytes() - before > len(taken) / 2


@pytest.mark.usefixtures("any_system")
def test_a_connection_is_broken_on_any_system() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with socket.create_connection(listening.getsockname()) as client:
            client.settimeout(BOUND_S)
            accepted, address = listening.accept()
            with accepted:
                break_connection({"client": address, "server": accepted.getsockname()})
                assert client.recv(1) == b""


def test_where_descriptors_are_listed_nowhere_none_is_found(
    hidden: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine, "DESCRIPTORS", tmp_path / "no-fd")
    assert list(machine.descriptors()) == []


@pytest.mark.usefixtures("any_system")
def test_the_end_of_a_process_is_noticed_on_any_system() -> None:
    with subprocess.Popen(["sleep", "600"]) as stays, subprocess.Popen(["sleep", "600"]) as goes:
        machine.wait_until_one_ends([stays.pid, goes.pid], 0.01)  # a limit, and nobody has ended
        goes.kill()
        machine.wait_until_one_ends([stays.pid, goes.pid], BOUND_S)
        assert goes.wait(BOUND_S) == -signal.SIGKILL
        machine.wait_until_one_ends([stays.pid, goes.pid], BOUND_S)  # one is gone altogether
        assert stays.poll() is None
        stays.kill()


def test_capabilities_are_unknown_where_nothing_shows_them(hidden: None) -> None:
    assert machine.effective_capabilities() is None


def test_orphans_are_adopted_on_linux_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not machine.adopt_orphans()


def test_without_proc_the_number_of_a_postmaster_must_do(hidden: None, tmp_path: Path) -> None:
    (tmp_path / "postmaster.pid").write_text(f"{os.getpid()}\n")
    assert watchdog.postmaster_pid(tmp_path) == os.getpid()


# --- paths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "used"), [("/var/tmp", "/var/tmp"), ("/tmp/" + "x" * 100, "/tmp"), ("tmp", "/tmp")]
)
def test_sockets_are_below_a_short_temporary_directory(
    monkeypatch: pytest.MonkeyPatch, named: str, used: str
) -> None:
    monkeypatch.setenv("TMPDIR", named)
    assert machine.short_directory() == Path(used)


def test_without_any_directory_for_sockets_a_sentence_says_what_to_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "long"))
    monkeypatch.setattr(machine, "SHORT", ("/none/a", "/none/b"))
    with pytest.raises(ConfigurationError, match=r"name one in TMPDIR .* 12 bytes, other than"):
        machine.short_directory()


def test_the_longest_sockets_fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    base = Path("/" + "x" * (machine.SHORT_BYTES - 1))
    monkeypatch.setattr(environment, "short_directory", lambda: base)
    monkeypatch.setattr(os, "getuid", lambda: 2**32 - 2)
    haproxy = haproxy_dir(tmp_path / "ü" / ("x" * 100)) / ("n" * 56) / "metrics.sock"
    assert len(os.fsencode(haproxy)) <= 97, "HAProxy: 'socket path too long (max 97)'"
    session = "session_2026-11-29_07-22-54_893566_4194304"
    ray = base / "gr-ray-12345678" / RAY_DIR_BELOW / session / "sockets" / "plasma_store"
    assert len(os.fsencode(ray)) <= 107, "Ray: 'AF_UNIX path length cannot exceed 107 bytes'"


# --- the token of an own Ray ----------------------------------------------------------------------


@pytest.fixture
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "ray", raising=False)


@pytest.fixture
def environ(no_token: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The environment, as it was afterwards."""
    before = dict(os.environ)
    yield before
    for name in set(os.environ) - set(before):
        del os.environ[name]


@pytest.mark.usefixtures("environ")
def test_each_data_directory_has_a_token_of_its_own_that_only_its_user_reads(
    tmp_path: Path,
) -> None:
    found = []
    for name in ("one", "two"):
        os.environ.pop("RAY_AUTH_TOKEN_PATH", None)
        settings = Settings.read(data_dir=tmp_path / name, haproxy=False)
        path = Path(apply_ray_environment(settings)["RAY_AUTH_TOKEN_PATH"])
        assert path.parent == tmp_path / name
        assert path.stat().st_mode & 0o777 == 0o600
        found.append(path.read_text())
        # The next start has the same: a process that is still ending belongs to the same Ray.
        os.environ.pop("RAY_AUTH_TOKEN_PATH")
        path.chmod(0o644)
        apply_ray_environment(settings)
        assert path.read_text() == found[-1]
        assert path.stat().st_mode & 0o777 == 0o600
    assert len(set(found)) == 2
    assert min(map(len, found)) == 64


@pytest.mark.usefixtures("environ")
@pytest.mark.parametrize("name", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"])
def test_a_token_of_the_operator_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, str(tmp_path / "given"))
    settings = Settings.read(data_dir=tmp_path / "data", haproxy=False)
    in_force = apply_ray_environment(settings)
    assert os.environ[name] == str(tmp_path / "given")
    assert in_force.get("RAY_AUTH_TOKEN_PATH") == os.environ.get("RAY_AUTH_TOKEN_PATH")
    assert not (tmp_path / "data").exists()


# --- open files -----------------------------------------------------------------------------------

RAISE = (
    "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]),"
    " int(sys.argv[2]))); from greenroom.machine import raise_open_files;"
    " print(raise_open_files(), resource.getrlimit(resource.RLIMIT_NOFILE))"
)


@pytest.mark.parametrize(("soft", "hard"), [(256, 2048), (256, 256)])
def test_the_limit_of_open_files_is_raised_to_what_it_may_be(soft: int, hard: int) -> None:
    command = [sys.executable, "-c", RAISE, str(soft), str(hard)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == f"{hard} ({hard}, {hard})"


def test_a_hard_limit_that_the_system_does_not_mean_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on macOS: the hard limit is infinite, and more than 10,240 are refused."""
    limits = [(256, resource.RLIM_INFINITY)]

    def set_limit(_: int, wanted: tuple[int, int]) -> None:
        if wanted[0] > 10_240:
            raise ValueError("current limit exceeds maximum limit")
        limits.append(wanted)

    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    assert machine.raise_open_files() == 10_240
    assert machine.raise_open_files() == 10_240
    assert len(limits) == 2


def test_too_few_open_files_are_a_sentence() -> None:
    check_open_files(LEAST_FILES)
    with pytest.raises(ConfigurationError, match="may have 256: raise the limit"):
        check_open_files(256)


def test_haproxy_accepts_as_many_connections_as_there_are_files_for() -> None:
    assert haproxy_connections(machine.MOST_FILES) == HAPROXY_CONNECTIONS
    assert few_connections(machine.MOST_FILES) == []
    (note,) = few_connections(LEAST_FILES)
    assert f"accepts {haproxy_connections(LEAST_FILES)} connections" in note
    assert few_connections(int(note.rstrip(".").rsplit(" ", 1)[1])) == []


def test_a_gateway_takes_more_requests_than_haproxy_can_pass_on() -> None:
    """Ray Serve has those beyond wait without an answer: a stream too many silenced the server."""
    assert REQUESTS_AT_ONCE > machine.MOST_FILES


# --- what is said when HAProxy does not start -----------------------------------------------------

CRASHED = """\x1b[36mray::HAProxyManager.ready()\x1b[39m (pid=1300, ip=192.0.2.2)
  File "haproxy.py", line 1211, in _wait_for_hap_availability
RuntimeError: HAProxy crashed during startup: [NOTICE]   (9300) : haproxy version is 2.8.1
[ALERT]    (9300) : [/lib/bin/haproxy.main()] Cannot raise FD limit to 99, limit is 64.
"""


def test_why_haproxy_does_not_start_is_said_with_a_way_around_it() -> None:
    found = haproxy_failure(RuntimeError(CRASHED))
    assert found is not None
    assert found.message.startswith(
        "HAProxy does not start here: Cannot raise FD limit to 99, limit is 64. With"
    )
    assert "--no-haproxy" in found.message
    assert haproxy_failure(RuntimeError("HTTP proxies not available after 60s.")) is None
    missing = haproxy_failure(RuntimeError("HAProxy crashed during startup: exit code 127"))
    assert missing is not None
    assert "exit code 127" in missing.message


# --- a real server on a machine that lacks nearly everything --------------------------------------

UNSHARE = ("unshare", "--mount", "--uts", "--net", "--propagation", "private")
MACHINE = """set -eu
# No IPv6, no way out, and a host name that does not resolve.
ip link set lo up
sysctl -qw net.ipv6.conf.all.disable_ipv6=1
hostname no-such-name
printf '127.0.0.1 localhost\\n' > "$PLACE/hosts"
mount --bind "$PLACE/hosts" /etc/hosts
# A /dev/shm as in a container; a home and a project that cannot be written.
mount -t tmpfs -o size=64m,mode=1777 tmpfs /dev/shm
mkdir "$PLACE/home"
mount -t tmpfs -o ro tmpfs "$PLACE/home"
mount --bind "$PLACE/first" "$PLACE/first"
mount -o remount,ro,bind "$PLACE/first"
ulimit -Sn 256
ulimit -Hn 1024
# Not root.
cd "$PLACE/first"
exec unshare --user --map-user=65534 --map-group=65534 "$PYTHON" "$PLACE/drive.py"
"""
DRIVE = """
import os, subprocess, sys
from pathlib import Path

import httpx

from tests.serving import serving

place = Path(os.environ["PLACE"])
assert os.getuid() == 65534
refused = subprocess.run(
    [sys.executable, "-m", "greenroom", "serve"], stderr=subprocess.PIPE, text=True
)
print(refused.returncode, refused.stderr.splitlines()[-1])
run = {"assistant_id": "echo", "input": {"text": "hi"}}
second_project = place / "mein zweites Projekt \\u65e5\\u672c"
with (
    serving(place / "data 1", place / "first" / "langgraph.json") as first,
    serving(place / "data 2", second_project / "langgraph.json") as second,
):
    for server in (first, second):
        answer = httpx.post(f"{server.url}/runs/wait", json=run, timeout=100)
        print(answer.status_code, answer.text)
    again = subprocess.run(
        [sys.executable, "-m", "greenroom", "serve", "--data-dir", str(first.data_dir)],
        stderr=subprocess.PIPE,
        text=True,
    )
    print(again.returncode, again.stderr.splitlines()[-1])
    print([line for line in first.log.read_text().splitlines() if line.startswith("Note: HAProxy")])
print(first.process.returncode, second.process.returncode)
"""
GRAPH = """
from typing import TypedDict
from langgraph.graph import StateGraph

class State(TypedDict, total=False):
    text: str

def say(state: State) -> State:
    return {"text": state["text"] + "!"}

graph = StateGraph(State).add_node("say", say).set_entry_point("say").compile()
"""


def may_unshare() -> bool:
    tools = all(shutil.which(tool) for tool in ("unshare", "ip", "sysctl", "hostname", "mount"))
    return tools and subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, which makes the machine")
def test_two_servers_run_where_nearly_everything_is_missing(tmp_path: Path) -> None:
    if not may_unshare():
        pytest.skip("namespaces cannot be made here")
    for name in ("first", "mein zweites Projekt 日本"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "graph.py").write_text(GRAPH)
        configured = {"dependencies": ["."], "graphs": {"echo": "./graph.py:graph"}}
        (tmp_path / name / "langgraph.json").write_text(json.dumps(configured))
    (tmp_path / "machine.sh").write_text(MACHINE)
    (tmp_path / "drive.py").write_text(DRIVE)
    temporary = tmp_path / ("a-long-name-" * 10)
    temporary.mkdir()
    done = subprocess.run(
        [*UNSHARE, "bash", str(tmp_path / "machine.sh")],
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith(("GREENROOM_", "RAY_"))},
            **{"PLACE": str(tmp_path), "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)},
            **{"HOME": str(tmp_path / "home"), "TMPDIR": str(temporary), "LC_ALL": "C"},
        },
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    refused, one, two, again, noted, codes = done.stdout.splitlines()
    assert refused.startswith("1 Error: The data directory ")
    assert refused.endswith("name another with --data-dir.")
    assert (one, two) == ('200 {"text":"hi!"}', '200 {"text":"hi!"}')
    assert again.startswith("1 Error: The server http://127.0.0.1:")
    assert "accepts 412 connections" in noted
    assert codes == "0 0"
    assert list(temporary.iterdir()) == []
