"""Node.js and a browser, for clients and guides. A plugin of `tests/conftest.py`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients import npm
from tests.clients.chromium import Browser


@pytest.fixture(scope="session")
def node() -> str:
    try:
        return npm.node()
    except npm.Missing as missing:
        pytest.skip(f"{missing}.")


@pytest.fixture(scope="session")
def browser(node: str) -> Iterator[Browser]:
    try:
        chromium = npm.chromium()
    except npm.Missing as missing:
        pytest.skip(f"{missing}.")
    with Browser.launched(node, chromium) as browser:
        yield browser
