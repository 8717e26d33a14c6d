"""Code in a process of its own, where nothing is imported yet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.waiting import BOUND_S

ROOT = Path(__file__).parent.parent


def run(code: str) -> None:
    """Executes code in a new interpreter; a failure fails the test, with what it wrote."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=BOUND_S, check=False
    )
    assert done.returncode == 0, done.stderr
