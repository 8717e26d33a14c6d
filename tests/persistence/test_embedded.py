"""The embedded server: who starts it, keeps it and stops it, and what it says when it cannot."""

from __future__ import annotations

import os
import select
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from greenroom.core.errors import ConfigurationError
from greenroom.persistence.embedded import (
    Embedded,
    privileges,
    start_embedded,
    starting,
    watchdog,
)

BOUND_S = 30.0
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
ROOT = Path(__file__).parents[2]

OWNER = """
import sys
from pathlib import Path
from greenroom.persistence.embedded import start_embedded
server = start_embedded(Path(sys.argv[1]), linger_s=float(sys.argv[2]))
print(server.dsn, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    where = tmp_path / "pg"
    yield where
    if (where / "data").exists():
        watchdog.stop_postmaster(where / "data")


@contextmanager
def owner(directory: Path, linger_s: float = 0) -> Iterator[subprocess.Popen[str]]:
    """Another process that starts or attaches to the server and holds it until it ends."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(directory), str(linger_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def dsn_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def postmaster(directory: Path) -> int:
    pid = watchdog.postmaster_pid(directory / "data")
    assert pid is not None
    return pid


def wait_for_end(pid: int) -> None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], BOUND_S)[0], "the server is still running"
    finally:
        os.close(fd)


def ask(dsn: str, sql: str) -> object:
    with psycopg.connect(dsn) as conn:
        row = conn.execute(sql.encode()).fetchone()
        assert row is not None
        return row[0]


def watchdog_of(directory: Path) -> int:
    """The process that holds the watchdog's lock, as /proc/locks tells."""
    inode = (directory / "watchdog").stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
            # The lock is listed under the process that took it; its child holds it on.
            for entry in Path("/proc").glob("[0-9]*/cmdline"):
                if str(directory) in entry.read_text() and "watchdog.py" in entry.read_text():
                    return int(entry.parent.name)
    raise AssertionError("no watchdog")


def test_it_starts_attaches_and_stops(directory: Path) -> None:
    first = start_embedded(directory)
    pid = postmaster(directory)
    second = start_embedded(directory)
    assert postmaster(directory) == pid
    assert second.dsn == first.dsn
    assert ask(first.dsn, "SELECT 1") == 1
    with psycopg.connect(first.dsn) as conn:
        sockets = Path(conn.info.host)
    first.stop()
    assert not sockets.exists()
    assert watchdog.postmaster_pid(directory / "data") is None
    first.stop()
    second.release()


@pytest.mark.parametrize("way", ["release", "stop"])
def test_a_second_release_closes_nobody_elses_file(
    postgres: Embedded, tmp_path: Path, way: str
) -> None:
    if way == "stop":
        share = start_embedded(tmp_path / "pg", linger_s=0)
        share.stop()
    else:
        share = start_embedded(postgres.directory)
        share.release()
    # The lowest number that is free: that of the share.
    with (tmp_path / "other").open("w") as other:
        share.release()
        if way == "stop":
            share.stop()
        other.write("still open")
        other.flush()
    assert (tmp_path / "other").read_text() == "still open"


def test_what_was_committed_is_there_after_a_restart(directory: Path) -> None:
    server = start_embedded(directory)
    with psycopg.connect(server.dsn) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 7 AS n")
    pid = postmaster(directory)
    os.kill(pid, signal.SIGQUIT)
    wait_for_end(pid)
    server.release()
    server = start_embedded(directory)
    assert ask(server.dsn, "SELECT n FROM kept") == 7
    server.stop()


def test_it_is_durable_private_and_never_on_tcp(directory: Path) -> None:
    server = start_embedded(directory)
    with psycopg.connect(server.dsn) as conn:
        shown = dict(conn.execute("SELECT name, setting FROM pg_settings").fetchall())
        sockets = Path(conn.info.host)
    assert (shown["fsync"], shown["synchronous_commit"]) == ("on", "on")
    assert (shown["listen_addresses"], shown["max_connections"]) == ("", "300")
    assert "transaction_timeout" in shown
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "data").stat().st_mode) == 0o700
    server.stop()


def test_the_path_of_the_directory_may_be_long(tmp_path: Path) -> None:
    server = start_embedded(tmp_path / ("deep " * 20) / "it's" / "pg")
    assert ask(server.dsn, "SELECT 1") == 1
    server.stop()


def test_processes_that_start_at_once_share_one_server(directory: Path) -> None:
    with owner(directory) as one, owner(directory) as two, owner(directory) as three:
        dsns = {dsn_of(process) for process in (one, two, three)}
        assert len(dsns) == 1
        assert ask(dsns.pop(), "SELECT 1") == 1


def test_it_ends_when_its_last_owner_was_killed(directory: Path) -> None:
    with owner(directory) as one, owner(directory) as two:
        dsn = dsn_of(one)
        dsn_of(two)
        pid = postmaster(directory)
        one.kill()
        one.wait(BOUND_S)
        assert ask(dsn, "SELECT 1") == 1
        two.kill()
        wait_for_end(pid)


def test_it_ends_when_its_owner_leaves(directory: Path) -> None:
    with owner(directory) as process:
        dsn_of(process)
        pid = postmaster(directory)
        assert process.stdin is not None
        process.stdin.close()
        wait_for_end(pid)


def test_an_owner_that_comes_back_in_time_finds_it_running(directory: Path) -> None:
    """The owner is killed, its successor attaches before the linger is over."""
    with owner(directory, linger_s=5) as first:
        dsn_of(first)
        pid = postmaster(directory)
        first.kill()
        first.wait(BOUND_S)
    server = start_embedded(directory)
    assert postmaster(directory) == pid
    server.stop()


def test_a_server_whose_owner_and_watchdog_were_killed_is_taken_over(directory: Path) -> None:
    with owner(directory) as process:
        dsn_of(process)
        pid = postmaster(directory)
        os.kill(watchdog_of(directory), signal.SIGKILL)
    # The lock of the dead watchdog may take a moment; the next owner gets one of its own.
    with owner(directory) as process:
        dsn_of(process)
        assert postmaster(directory) == pid
        process.kill()
        wait_for_end(pid)


def test_a_number_that_was_given_to_another_process_does_not_matter(directory: Path) -> None:
    """After a reboot or in a new container, postmaster.pid names a living stranger."""
    server = start_embedded(directory)
    pid_file = directory / "data" / "postmaster.pid"
    left_over = pid_file.read_text()
    os.kill(postmaster(directory), signal.SIGQUIT)
    server.stop()
    pid_file.write_text(f"{os.getpid()}\n{left_over.partition(chr(10))[2]}")
    server = start_embedded(directory)
    assert ask(server.dsn, "SELECT 1") == 1
    server.stop()


def test_a_half_made_database_is_made_again(directory: Path) -> None:
    (directory / "data.new" / "base").mkdir(parents=True)
    server = start_embedded(directory)
    assert ask(server.dsn, "SELECT 1") == 1
    server.stop()


@AS_ROOT
def test_as_root_a_closed_parent_stays_closed(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    server = start_embedded(closed / "pg")
    status = Path(f"/proc/{postmaster(closed / 'pg')}/status").read_text()
    assert ask(server.dsn, "SELECT 1") == 1
    server.stop()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    lines = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert lines["Uid"].split()[1] != "0"
    assert int(lines["CapEff"], 16).bit_count() <= 1
    assert lines["CapBnd"] == lines["CapEff"]


@AS_ROOT
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
def test_root_with_the_few_powers_of_a_container_can_do_it_all(tmp_path: Path) -> None:
    """Docker's default has neither DAC_READ_SEARCH nor SYS_PTRACE."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    powers = "-all,+chown,+dac_override,+fowner,+kill,+setgid,+setuid,+setpcap"
    command = ["setpriv", f"--bounding-set={powers}", "--inh-caps=-all", sys.executable, "-c"]
    code = """if True:
        import sys
        from pathlib import Path
        from greenroom.persistence.embedded import start_embedded
        first = start_embedded(Path(sys.argv[1]))
        second = start_embedded(Path(sys.argv[1]))
        first.stop()
    """
    subprocess.run([*command, code, str(closed / "pg")], cwd=ROOT, check=True, timeout=BOUND_S)
    assert watchdog.postmaster_pid(closed / "pg" / "data") is None
    assert not (closed / "pg" / "data" / "postmaster.pid").exists()


# --- what it says when it cannot ----------------------------------------------------------------


def refusal(directory: Path) -> str:
    with pytest.raises(ConfigurationError) as raised:
        start_embedded(directory)
    assert "\n" not in raised.value.message
    return raised.value.message


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert f"{tmp_path / 'file'} cannot be used (file exists)" in refusal(tmp_path / "file")


def test_a_database_of_another_version_is_refused(directory: Path) -> None:
    start_embedded(directory).stop()
    (directory / "data" / "PG_VERSION").write_text("15\n")
    assert "was made by PostgreSQL 15 and this is PostgreSQL 18" in refusal(directory)


def test_a_directory_that_is_no_database_is_left_alone(directory: Path) -> None:
    (directory / "data").mkdir(parents=True)
    (directory / "data" / "thesis.tex").write_text("precious")
    assert "is not a PostgreSQL database" in refusal(directory)
    assert (directory / "data" / "thesis.tex").read_text() == "precious"


def test_a_damaged_database_gives_the_reason_of_the_server(directory: Path) -> None:
    start_embedded(directory).stop()
    os.truncate(directory / "data" / "global" / "pg_control", 10)
    said = refusal(directory)
    assert "did not start: could not read file" in said
    assert "Restore the directory from a backup" in said


def test_a_socket_directory_of_somebody_else_is_not_used(directory: Path) -> None:
    server = start_embedded(directory)
    with psycopg.connect(server.dsn) as conn:
        sockets = Path(conn.info.host)
    server.stop()
    sockets.mkdir()
    sockets.chmod(0o777)
    assert "is not a private directory" in refusal(directory)
    sockets.rmdir()


@AS_ROOT
def test_root_without_useradd_is_told_what_to_do(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privileges, "SERVER_USER", "greenroom-nobody")
    monkeypatch.setattr(privileges.shutil, "which", lambda *_, **__: None)
    assert "there is no useradd" in refusal(directory)


def test_a_platform_without_binaries_is_told_so(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting.importlib.util, "find_spec", lambda _: None)
    assert "no PostgreSQL binaries" in refusal(directory)


@AS_ROOT
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
def test_a_user_without_a_name_is_told_so(tmp_path: Path) -> None:
    """As in containers that give each project a number of its own."""
    shared = tmp_path / "shared"
    shared.mkdir()
    os.chown(shared, 4242, 4242)
    # It passes the directories of others, and the interpreter's, as root does.
    powers = [f"--{kind}=-all,+dac_read_search" for kind in ("inh-caps", "ambient-caps")]
    command = ["setpriv", "--reuid=4242", "--regid=4242", "--clear-groups", *powers]
    code = """if True:
        import sys
        from pathlib import Path
        from greenroom.core.errors import ConfigurationError
        from greenroom.persistence.embedded import start_embedded
        try:
            start_embedded(Path(sys.argv[1]))
        except ConfigurationError as error:
            print(error.message)
    """
    done = subprocess.run(
        [*command, sys.executable, "-c", code, str(shared / "pg")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=True,
    )
    assert "user ID 4242" in done.stdout
    assert "Give this user an entry in /etc/passwd, or give a database URL." in done.stdout
