"""What holds for all tests: which of them stay together when several processes share them.

`make test` spreads the tests over processes (pytest-xdist). Tests that share a server are a group
and stay in one process: the server starts before the first of them and ends after the last. Every
other test goes to whichever process is free, with a few others.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from greenroom.late_imports import import_less
from greenroom.machine import NICENESS
from tests.one_server import FOLDERS, write_everything
from tests.serving import Served, serving
from tests.spreading import ByGroup, is_last

pytest_plugins = ("tests.databases", "tests.programs")

# As the processes that execute graphs do.
import_less()

# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

ONE_SERVER = "one server"
USERS = "tests/server/test_users.py"
RELIABILITY = "tests/reliability/"
MODELS = "tests/models/"

GROUPS = {
    # Though it has several servers: what kills and what is timed does not meet its like.
    "tests/reliability/": RELIABILITY,
    "tests/cluster/test_two_nodes.py": RELIABILITY,
    "tests/server/test_dev.py": "tests/server/test_dev.py",
    "tests/server/test_shards.py": "tests/server/test_shards.py",
    "tests/server/test_users.py": USERS,
    "tests/console/test_with_users.py": USERS,
    **dict.fromkeys(FOLDERS, ONE_SERVER),
    "tests/models/test_on_a_server.py": MODELS,
    "tests/models/test_what_is_seen.py": MODELS,
    "tests/notebook/test_room.py": "tests/notebook/test_room.py",
}
"""Where a server is shared, as tests' ids begin: the first that fits says what the group is."""
FIRST = (ONE_SERVER, RELIABILITY, USERS, MODELS)
"""The longest groups, the longest first: begun late, one would go on when all others are over."""

STARTED = pytest.StashKey[contextlib.ExitStack]()
"""Ends the server of the group, if it was started."""


def group_of(node_id: str) -> str:
    """Tests of a group; a test without one is a group of its own."""
    return next((group for begin, group in GROUPS.items() if node_id.startswith(begin)), node_id)


@pytest.fixture(scope="session", autouse=True)
def certificates_are_read_once() -> Iterator[None]:
    """Every client of httpx reads those of the machine, 20 ms of CPU, and no test speaks TLS."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", functools.cache(ssl.create_default_context))
        yield


@pytest.fixture(scope="session")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """The one of `tests/one_server.py`; other folders with a server have a fixture of their own."""
    folder = tmp_path_factory.mktemp("one-server")
    site = write_everything(folder)
    with contextlib.ExitStack() as started:
        request.session.stash[STARTED] = started
        served = serving(folder / "data", site.config, environment=site.environment)
        yield started.enter_context(served)


@pytest.fixture(scope="session")
def users(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A server with users, the handlers of `tests/http/owners.py`, below a prefix."""
    config = Path(__file__).parent / "server" / "users.json"
    # Without HAProxy and a second gateway it starts sooner.
    environment = {"GREENROOM_HAPROXY": "false", "GREENROOM_GATEWAY_REPLICAS": "1"}
    with contextlib.ExitStack() as started:
        request.session.stash[STARTED] = started
        served = serving(tmp_path_factory.mktemp("users"), config, environment=environment)
        server = started.enter_context(served)
        yield replace(server, url=f"{server.url}/agents")


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Ends a server with the last test of its group, and not with the last of the process."""
    if nextitem is None or group_of(nextitem.nodeid) != group_of(item.nodeid):
        item.session.stash.get(STARTED, contextlib.ExitStack()).close()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Comes after the shuffling, whose order stays within a group and within a folder."""
    places = {}
    for item in items:
        group = group_of(item.nodeid)
        rank = FIRST.index(group) if group in FIRST else len(FIRST)
        alone = group == item.nodeid
        folder = next((n for n, each in enumerate(FOLDERS) if item.nodeid.startswith(each)), -1)
        places[item] = (rank, alone, "" if alone else group, folder, str(item.path.parent))
    items.sort(key=places.__getitem__)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Nothing that is collected is garbage: to look for it takes a third of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_finish(session: pytest.Session) -> None:
    worker = getattr(session.config, "workerinput", None)
    # Not before: the other processes wait until all have collected the tests.
    if worker is not None and is_last(worker["workerid"], worker["workercount"]):
        os.nice(NICENESS)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Schedules by our groups: xdist's mark for them has no effect with pytest 9.2."""
    return ByGroup(config, log, group_of)
