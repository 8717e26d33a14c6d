"""Node.js and browsers, for clients, guides and the console. A plugin of `tests/conftest.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients import npm
from tests.clients.chromium import Browser

CONSOLE = Path(__file__).parent / "console" / "driver.mjs"


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


@pytest.fixture(scope="session")
def visitor(node: str) -> Iterator[Browser]:
    """Somebody who looks at consoles; each scenario of `tests/console` has a context of its own."""
    try:
        chromium = npm.chromium()
    except npm.Missing as missing:
        pytest.skip(f"{missing}.")
    with Browser.launched(node, chromium, CONSOLE) as browser:
        yield browser
