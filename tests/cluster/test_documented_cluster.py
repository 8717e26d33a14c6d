"""docs/deploy.md, followed command by command: two Ray nodes on this machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import psutil
import pytest

from tests.serving import free_port

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "deploy.md").read_text()

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_two_nodes_of_the_documentation_serve_and_are_upgraded(tmp_path: Path) -> None:
    steps = re.findall(r"<!-- followed -->\n```sh\n(.*?)```", PAGE, re.DOTALL)
    assert len(steps) == 5
    script = tmp_path / "followed.sh"
    # It stops at the first command that fails, and shows each.
    script.write_text("set -exo pipefail\n" + "\n".join(steps) + "\necho FOLLOWED TO THE END\n")
    directory = Path(tempfile.mkdtemp(prefix="gr-doc-"))
    ports = {name: str(free_port()) for name in ("PORT", "SECOND_PORT", "DASHBOARD_PORT")}
    given = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        **ports,
        "HOME": str(directory),
        "CLUSTER_DIR": str(directory),
        "HEAD_PORT": str(free_port()),
        "VIRTUAL_ENV": str(ROOT / ".venv"),
    }
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["bash", str(script)],
            cwd=ROOT,
            env=given,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        assert process.wait(540) == 0, log.read_text()[-6000:]
    finally:
        _end(process.pid, directory)
    said = log.read_text()
    assert said.count('{"ok":true') == 2
    assert "event: metadata" in said
    assert "event: messages" in said or "event: values" in said
    assert said.rstrip().endswith("FOLLOWED TO THE END")


def _end(session: int, directory: Path) -> None:
    """Whatever is left of the nodes, should a command have failed: all that was started there."""
    left = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session or str(directory) in " ".join(process.cmdline()):
                left.append(process)
        except (psutil.Error, ProcessLookupError):
            continue
    for process in left:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.Error:
            continue
    shutil.rmtree(directory, ignore_errors=True)
