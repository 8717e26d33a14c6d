"""The ways, with users and below a prefix; and what users see of each other."""

from __future__ import annotations

import pytest

from tests.console.conftest import Place
from tests.console.ways import *  # noqa: F403


@pytest.fixture
def place(closed_place: Place) -> Place:
    return closed_place
