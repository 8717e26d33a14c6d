"""What holds for all tests.

Folders whose tests need a real server start one each, and end it when their last test is done. So
the tests of a folder stay together, shuffled among themselves: two Rays at once would only be slow.
"""

from __future__ import annotations

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: str(item.path.parent))
