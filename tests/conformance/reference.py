"""Asks the reference server the scenarios: ``python -m tests.conformance.reference ENVIRONMENT``.

Starts `langgraph dev` of that environment on a free port, runs this folder's tests against it, ends
it, and records the outcome in `outcome.json` and `docs/compatibility.md`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import httpx

from tests.conformance.compatibility import Outcome, write
from tests.conformance.folder import HERE, write_folder
from tests.serving import free_port

PATIENCE_S = 60.0
PACKAGES = ("langgraph-api", "langgraph-runtime-inmem", "langgraph", "langgraph-sdk")
PLACES = "10"
"""As many runs at once as Greenroom has by default; the reference's own default is one."""


def main(environment: Path) -> int:
    with tempfile.TemporaryDirectory(prefix="greenroom-reference-") as scratch:
        report = Path(scratch) / "report.xml"
        write_folder(Path(scratch) / "graphs")
        with reference(environment, Path(scratch) / "graphs") as url:
            code = subprocess.run(
                [
                    *(sys.executable, "-m", "pytest", str(HERE), "-q", "--tb=short"),
                    *("--ignore", str(HERE / "test_compatibility_page.py")),
                    *("--junitxml", str(report), "-p", "no:randomly", "--timeout=180"),
                ],
                cwd=HERE.parents[1],
                env={**os.environ, "CONFORMANCE_URL": url},
                check=False,
            ).returncode
        if code == 0:
            write(outcome(report, versions(environment)))
    return code


@contextlib.contextmanager
def reference(environment: Path, folder: Path) -> Iterator[str]:
    """The reference server, running; its URL."""
    port = free_port()
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(str((environment / "bin" / "langgraph").absolute()), "dev"),
                *("--no-browser", "--no-reload", "--port", str(port)),
                *("--n-jobs-per-worker", PLACES),
            ],
            cwd=folder,
            env={**os.environ, "LANGSMITH_TRACING": "false"},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(process, url, log)
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/ok").is_success:
                return
        time.sleep(0.2)
    raise SystemExit(f"The reference did not get ready:\n{log.read_text()}")


def versions(environment: Path) -> dict[str, str]:
    script = "import sys, importlib.metadata as m; print(*map(m.version, sys.argv[1:]))"
    printed = subprocess.run(
        [str(environment / "bin" / "python"), "-c", script, *PACKAGES],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return dict(zip(PACKAGES, printed.split(), strict=True))


def outcome(report: Path, found: dict[str, str]) -> Outcome:
    """Counts what the report says of each scenario."""
    same = differ = not_asked = 0
    for case in ElementTree.parse(report).iter("testcase"):
        skipped = case.find("skipped")
        kind = None if skipped is None else skipped.get("type")
        same += kind is None
        differ += kind == "pytest.xfail"
        not_asked += kind == "pytest.skip"
    return Outcome(same=same, differ=differ, not_asked=not_asked, versions=found)


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
