"""What holds for all tests: which of them stay together when several processes share them.

`make test` spreads the tests over processes (pytest-xdist). Tests that share a server are a group
and stay in one process: the server starts before the first of them and ends after the last. Every
other test goes to whichever process is free.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings

# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

GROUPS = (
    # One group, though it has several servers: what kills and what is timed does not meet its like.
    "tests/reliability/",
    "tests/server/test_shards.py",
    "tests/conformance/",
    "tests/server/",
    "tests/clients/",
    "tests/guides/test_guides.py",
    "tests/models/test_on_a_server.py",
    "tests/models/test_what_is_seen.py",
    "tests/notebook/test_room.py",
    "tests/cluster/test_two_nodes.py",
)
"""Where a server is shared, as tests' ids begin: the first that fits is the group."""
TOGETHER = {
    "tests/models/test_what_is_seen.py": "tests/models/test_on_a_server.py",
    "tests/cluster/test_two_nodes.py": "tests/reliability/",
}
FIRST = (
    "tests/reliability/",
    "tests/conformance/",
    "tests/server/",
    "tests/clients/",
)
"""The longest groups: begun late, one of them would go on when all others are over."""


def group_of(node_id: str) -> str:
    """Tests of a group; a test without one is a group of its own."""
    found = next((group for group in GROUPS if node_id.startswith(group)), node_id)
    return TOGETHER.get(found, found)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Comes after the shuffling, whose order stays within a group and within a folder."""
    places = {}
    for item in items:
        group = group_of(item.nodeid)
        rank = FIRST.index(group) if group in FIRST else len(FIRST)
        alone = group == item.nodeid
        places[item] = (rank, alone, "" if alone else group, str(item.path.parent))
    items.sort(key=places.__getitem__)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Schedules by our groups: xdist's mark for them has no effect with pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class ByServer(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return ByServer(config, log)
