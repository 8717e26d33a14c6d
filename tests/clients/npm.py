"""The npm packages of the client tests: installed once, into the ignored node_modules beside this.

``python -m tests.clients.npm`` installs them ahead of the tests and fails where that is impossible.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
PACKAGES = HERE / "package.json"
NEEDED_NODE = 20
INSTALL_PATIENCE_S = 100.0
INSTALL = ("npm", "install", "--no-audit", "--no-fund", "--no-package-lock")
SDKS = {"2.0.0": "@langchain/langgraph-sdk", "1.15.0": "langgraph-sdk-1"}
"""Under which names package.json has the two code lines of the SDK."""

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_SHELL = "chromium-headless-shell"
"""Chromium without what shows windows, which takes a third less CPU."""


class Missing(Exception):
    """What a test needs is not on this machine; the message says what."""


@cache
def node() -> str:
    """The path of a Node.js that is new enough, with the packages installed.

    Raises:
        Missing: there is none, or the packages cannot be installed.
    """
    path = shutil.which("node")
    if path is None or shutil.which("npm") is None:
        raise Missing(f"Node.js {NEEDED_NODE} or newer with npm is not installed")
    said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30).stdout
    version = re.match(r"v(\d+)", said)
    if version is None or int(version[1]) < NEEDED_NODE:
        raise Missing(f"Node.js is {said.strip()}; the SDKs need {NEEDED_NODE} or newer")
    _install()
    return path


def chromium(*, as_people_have_it: bool = False) -> str:
    """The path of Chromium, of its headless shell if that is installed.

    Args:
        as_people_have_it: for pictures and figures, whose Chromium could show a window.

    Raises:
        Missing: there is none.
    """
    for name in CHROMIUM_NAMES if as_people_have_it else (CHROMIUM_SHELL, *CHROMIUM_NAMES):
        if path := shutil.which(name):
            return path
    raise Missing("Chromium is not installed")


def _install() -> None:
    modules = HERE / "node_modules"
    modules.mkdir(exist_ok=True)
    stamp = modules / ".greenroom-stamp"
    wanted = hashlib.sha256(PACKAGES.read_bytes()).hexdigest()
    with (modules / ".greenroom-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may begin at once
        if stamp.exists() and stamp.read_text() == wanted:
            return
        try:
            done = subprocess.run(
                INSTALL, cwd=HERE, capture_output=True, text=True, timeout=INSTALL_PATIENCE_S
            )
        except subprocess.TimeoutExpired:
            raise Missing(f"npm install took longer than {INSTALL_PATIENCE_S:g} s") from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it did not say why"])[-1]
            raise Missing(f"npm install failed: {last}")
        stamp.write_text(wanted)


if __name__ == "__main__":
    try:
        print(f"The npm packages of the client tests are installed for {node()}.")
    except Missing as missing:
        sys.exit(f"{missing}.")
