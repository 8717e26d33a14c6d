"""Chromium, driven by a program of ours in Node.js: react/browser.mjs, or that of tests/console."""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).parent
USE_STREAM = HERE / "react" / "browser.mjs"
"""The program with pages that use useStream."""
SCENARIO_PATIENCE_S = 60.0
END_PATIENCE_S = 15.0


class Browser:
    """One browser for many scenarios, each with a page of its own."""

    def __init__(self, driver: subprocess.Popen[str]) -> None:
        self._driver = driver
        self._told: queue.SimpleQueue[str] = queue.SimpleQueue()
        assert driver.stdin is not None
        assert driver.stdout is not None
        self._stdin = driver.stdin
        self._reader = threading.Thread(target=self._read, args=(driver.stdout,), daemon=True)
        self._reader.start()

    @classmethod
    @contextlib.contextmanager
    def launched(cls, node: str, chromium: str, program: Path = USE_STREAM) -> Iterator[Browser]:
        """Starts the program with Chromium's path and an empty profile, and ends both."""
        with (
            tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile,
            subprocess.Popen(
                [node, str(program), chromium, profile],
                cwd=HERE,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as driver,
        ):
            browser = cls(driver)
            try:
                yield browser
            finally:
                browser._stdin.close()  # it closes Chromium and ends
                try:
                    driver.wait(END_PATIENCE_S)
                except subprocess.TimeoutExpired:
                    driver.terminate()  # Chromium ends with it
                browser._reader.join(END_PATIENCE_S)

    async def play(
        self, scenario: str, *, patience_s: float = SCENARIO_PATIENCE_S, **options: Any
    ) -> dict[str, Any]:
        """What the scenario of the program tells, without a problem in its page."""
        return await asyncio.to_thread(self._play, scenario, options, patience_s)

    def _play(self, scenario: str, options: dict[str, Any], patience_s: float) -> dict[str, Any]:
        self._stdin.write(json.dumps({"scenario": scenario, **options}) + "\n")
        self._stdin.flush()
        try:
            line = self._told.get(timeout=patience_s)
        except queue.Empty:
            raise AssertionError(f"The browser did not finish '{scenario}'.") from None
        assert line, "The browser ended."
        told = json.loads(line)
        assert "failed" not in told, json.dumps(told, indent=1).replace("\\n", "\n")
        assert told["problems"] == [], "\n".join(told["problems"])
        return told

    def _read(self, stdout: IO[str]) -> None:
        for line in stdout:
            self._told.put(line)
        self._told.put("")
