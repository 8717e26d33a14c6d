"""The ways, where everybody is let in."""

from __future__ import annotations

import pytest

from tests.console.conftest import Place
from tests.console.ways import *  # noqa: F403


@pytest.fixture
def place(open_place: Place) -> Place:
    return open_place
