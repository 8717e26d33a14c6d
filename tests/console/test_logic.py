"""The console's logic without a browser: logic.test.mjs, by Node.js."""

from __future__ import annotations

import subprocess
from pathlib import Path

TESTS = Path(__file__).parent / "logic.test.mjs"


def test_logs_differences_forks_and_frames(node: str) -> None:
    command = [node, "--test", "--test-reporter=tap", str(TESTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# pass 14" in done.stdout
