"""The JavaScript SDK, as a program that drives the server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients import npm
from tests.serving import Served

HERE = Path(__file__).parent
SCENARIO_PATIENCE_S = 60.0

Told = dict[str, Any]


class Sdk:
    """One version of the JavaScript SDK, in one Node.js for many scenarios.

    Args:
        driver: js/driver.mjs, which has written nothing to `complaints` unless something is wrong.
        url: of the server, unless a scenario has another.
    """

    def __init__(self, driver: subprocess.Popen[str], complaints: Path, url: str) -> None:
        self._driver = driver
        self._complaints = complaints
        self._url = url

    async def play(self, scenario: str, url: str | None = None, **arguments: Any) -> list[Told]:
        """What the scenario of js/driver.mjs tells, in order."""
        asked = {"scenario": scenario, "apiUrl": url or self._url, "args": arguments}
        told = await asyncio.to_thread(self._play, asked)
        assert self._complaints.read_text() == ""
        return told

    def _play(self, asked: dict[str, Any]) -> list[Told]:
        assert self._driver.stdin is not None
        assert self._driver.stdout is not None
        self._driver.stdin.write(json.dumps(asked) + "\n")
        self._driver.stdin.flush()
        # Whoever hangs is ended, and then there are no more lines.
        ends = threading.Timer(SCENARIO_PATIENCE_S, self._driver.kill)
        ends.start()
        try:
            told = []
            for line in self._driver.stdout:
                told.append(json.loads(line))
                if told[-1]["kind"] == "over":
                    return told[:-1]
        finally:
            ends.cancel()
        raise AssertionError(f"It ended in {asked}:\n{self._complaints.read_text()}")


@contextlib.contextmanager
def driven(node: str, package: str, folder: Path, url: str) -> Iterator[Sdk]:
    """One version of the SDK in its Node.js.

    Args:
        package: of `npm.SDKS`.
        folder: for what it complains about.
    """
    complaints = folder / f"{package.rpartition('/')[2]}.err"
    with (
        complaints.open("w") as stderr,
        subprocess.Popen(
            [node, "js/driver.mjs", package],
            cwd=HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as driver,
    ):
        try:
            yield Sdk(driver, complaints, url)
        finally:
            driver.kill()


@pytest.fixture(scope="package")
def sdks(
    node: str, server: Served, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Sdk]]:
    """Each version, by its package."""
    folder = tmp_path_factory.mktemp("sdks")
    with contextlib.ExitStack() as started:
        yield {
            package: started.enter_context(driven(node, package, folder, server.url))
            for package in npm.SDKS.values()
        }


@pytest.fixture(params=npm.SDKS, ids=list(npm.SDKS))
def sdk(request: pytest.FixtureRequest, sdks: dict[str, Sdk]) -> Sdk:
    return sdks[npm.SDKS[request.param]]
