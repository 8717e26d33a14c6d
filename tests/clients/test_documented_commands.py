"""The commands of docs/clients.md, run as they stand there."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.clients.chromium import Browser
from tests.serving import Served, free_port

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "clients.md").read_text()
ANSWER = "You said: 'Hello'"
COMMAND_PATIENCE_S = 60.0


def command(heading: str, server: Served) -> str:
    """The command under a heading, for the server of the tests."""
    (found,) = re.findall(rf"^## {heading}\n.*?^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    # What npm would install is installed.
    found = re.sub(r"^npm install (.*\\\n)*.*\n", "", found, flags=re.MULTILINE)
    return found.replace("http://127.0.0.1:8000", server.url).replace(
        ".venv/bin/python", sys.executable
    )


def run(script: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=COMMAND_PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path, node: str) -> Path:
    """An empty folder in which npm has installed what the page says."""
    (tmp_path / "node_modules").symlink_to(Path(__file__).parent / "node_modules")
    return tmp_path


@contextlib.contextmanager
def running(script: str, folder: Path) -> Iterator[None]:
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=COMMAND_PATIENCE_S)


def wait_for(url: str) -> None:
    deadline_s = time.monotonic() + COMMAND_PATIENCE_S
    while time.monotonic() < deadline_s:
        with contextlib.suppress(httpx.TransportError):
            httpx.get(url).raise_for_status()
            return
        time.sleep(0.05)
    raise AssertionError(f"Nothing answers at {url}.")


@pytest.mark.parametrize(
    "client",
    [
        *("Python SDK", "RemoteGraph", "MCP"),
        *("Threads with the Python SDK", "Threads with RemoteGraph"),
    ],
)
def test_the_command_of_a_python_client_prints_an_answer(client: str, server: Served) -> None:
    assert run(command(client, server), ROOT).startswith(ANSWER)


def test_the_command_of_the_javascript_sdk_prints_an_answer(folder: Path, server: Served) -> None:
    assert run(command("JavaScript SDK", server), folder).startswith(ANSWER)


def test_the_command_of_the_javascript_sdk_that_follows_a_thread(
    folder: Path, server: Served
) -> None:
    # That version has another name beside 2.0.0.
    script = command("Threads with the JavaScript SDK", server)
    script = script.replace('"@langchain/langgraph-sdk"', '"langgraph-sdk-1"')
    assert run(script, folder).startswith(ANSWER)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed.")
def test_the_command_of_curl_prints_events(server: Served) -> None:
    printed = run(command("curl", server), ROOT)
    assert printed.startswith("event: metadata")
    assert "event: messages" in printed


def test_the_command_that_repeats_a_request_makes_one_run(server: Served) -> None:
    assert run(command("Requests that are repeated", server), ROOT) == "one run\n"


async def test_the_page_with_use_stream_shows_an_answer(
    folder: Path, browser: Browser, server: Served
) -> None:
    address = f"127.0.0.1:{free_port()}"
    script = command("useStream", server).replace("127.0.0.1:3000", address)
    with running(script, folder):
        wait_for(f"http://{address}/")
        await browser.play("press", page=f"http://{address}/", expected=ANSWER)
