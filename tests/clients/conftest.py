"""The programs that drive the server."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients import npm
from tests.clients.chromium import Browser
from tests.serving import Served

HERE = Path(__file__).parent
SCENARIO_PATIENCE_S = 60.0

Told = dict[str, Any]


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


class Sdk:
    """One version of the JavaScript SDK, on Node.js."""

    def __init__(self, node: str, package: str, url: str) -> None:
        self._node = node
        self._package = package
        self._url = url

    async def play(self, scenario: str, url: str | None = None, **arguments: Any) -> list[Told]:
        """What the scenario of js/driver.mjs tells, in order."""
        command = [self._node, "js/driver.mjs", self._package, scenario, url or self._url]
        played = await asyncio.to_thread(
            subprocess.run,
            [*command, json.dumps(arguments)],
            cwd=HERE,
            capture_output=True,
            text=True,
            timeout=SCENARIO_PATIENCE_S,
        )
        assert played.returncode == 0, played.stderr
        assert played.stderr == ""
        return [json.loads(line) for line in played.stdout.splitlines()]


@pytest.fixture(params=npm.SDKS, ids=list(npm.SDKS))
def sdk(request: pytest.FixtureRequest, node: str, server: Served) -> Sdk:
    return Sdk(node, npm.SDKS[request.param], server.url)
