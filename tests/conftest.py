"""What holds for all tests: which of them stay together.

`make test` spreads the tests over several processes (pytest-xdist, ``--dist loadgroup``). Tests that
share a server are one group, and a group stays in one process: the server starts before the first
of them and ends after the last. Every other test goes to whichever process is free.
"""

from __future__ import annotations

import pytest

SERVERS = ("faulty", "sharded", "tended", "cluster", "room", "base_url", "server")
"""Fixtures that start a server for many tests; a folder has one of each name."""
FIRST = (
    "tests/conformance base_url",
    "tests/reliability server",
    "tests/server server",
    "tests/reliability faulty",
    "tests/clients server",
)
"""The longest groups: begun last, one of them would go on when all others are over."""


def group_of(item: pytest.Item) -> str | None:
    """The server of a test. A module with a server of its own says so by a mark."""
    if (mark := item.get_closest_marker("xdist_group")) is not None:
        return mark.args[0]
    names = getattr(item, "fixturenames", ())
    server = next((name for name in SERVERS if name in names), None)
    if server is None:
        return None
    return f"{item.path.parent.relative_to(item.config.rootpath)} {server}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Comes after the shuffling, whose order stays within a group and within a folder."""
    places = {}
    for item in items:
        group = group_of(item)
        if group is not None:
            item.add_marker(pytest.mark.xdist_group(group))
        rank = FIRST.index(group) if group in FIRST else len(FIRST)
        places[item] = (rank, group is None, str(item.path.parent), group or "")
    items.sort(key=places.__getitem__)
