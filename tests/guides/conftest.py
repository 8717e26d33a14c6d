"""The browser of the pages that show something in one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients import npm
from tests.clients.chromium import Browser


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    try:
        node, chromium = npm.node(), npm.chromium()
    except npm.Missing as missing:
        pytest.skip(f"{missing}.")
    with Browser.launched(node, chromium) as browser:
        yield browser
