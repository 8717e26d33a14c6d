"""The tutorial and the how-tos do what they say: each is executed from top to bottom."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

import httpx
import pytest

from greenroom.graphs.configuration import FILE_NAME, parse_configuration, read_configuration
from tests.clients import npm
from tests.guides.pages import PAGES, ROOT, Block, blocks, shows
from tests.guides.site import OTHERWISE_NAMED, environment_of
from tests.serving import Served, free_port, serving

COMMAND_PATIENCE_S = 180.0
TERMINAL_PATIENCE_S = 60.0
LOOK_AGAIN_S = 0.02

INSTALLS = re.compile(
    r"^(make install|\. \.venv/bin/activate|(pip|npm) install (\\\n|[^\\\n])*)\n", re.MULTILINE
)
"""What a reader does once; what the tests need is installed."""

OURS = "http://127.0.0.1:8000"
ELSEWHERE = ("http://127.0.0.1:2024", "https://my-deployment.example")
"""Where the server that a reader moves away from is; here, that is the same one."""

LESS_PATIENCE = {'"step_s": 1,': '"step_s": 0.45,', '"fetch_s": 1}': '"fetch_s": 0.05}'}
"""What a page waits for, and the tests do not. The first leaves time for killing a process."""


class Terminal:
    """A program that a page leaves running."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self._output = (folder / ".terminal").open("w+b")
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,  # esbuild ends with its input
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self._output.close()

    def shown(self) -> str:
        return Path(self._output.name).read_text()

    def until(self, enough: Callable[[str], bool]) -> None:
        """Waits until what it shows is enough."""
        deadline_s = time.monotonic() + TERMINAL_PATIENCE_S
        while not enough(self.shown()):
            assert time.monotonic() < deadline_s, self.shown()
            ended = self._process.poll() is not None
            assert not ended or enough(self.shown()), self.shown()
            time.sleep(LOOK_AGAIN_S)


class Reader:
    """Somebody who does what a page says, in an empty folder, with a server that runs already.

    Args:
        folder: where.
        terminals: ends what a page leaves running.
        request: gives the server, and a browser to the page that needs one.

    Attributes:
        printed: what the last command has shown.
    """

    def __init__(
        self, folder: Path, terminals: contextlib.ExitStack, request: pytest.FixtureRequest
    ) -> None:
        self._folder = folder
        self._terminals = terminals
        self._request = request
        self._server: Served = request.getfixturevalue("server")
        self._terminal: Terminal | None = None
        self.printed = ""
        self._ports = {str(port): str(free_port()) for port in (3000, 9000)}
        # `python` and `greenroom` are those of the environment that the reader has activated.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._environment = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}

    def follow(self, block: Block) -> None:
        if block.file:
            file = self._folder / block.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self._here(block.text))
            if block.file == FILE_NAME:
                read_configuration(self._folder)
            return
        match block.language:
            case "sh":
                self._shell(block)
            case "python":
                self._execute([sys.executable, "-c", self._here(block.text)], block)
            case "json":
                self._configuration(block)
            case "text":
                self._compare(block)
            case "console":
                self._operate(block)
            case "browser":
                self._look(block)
            case other:
                raise AssertionError(f"A block of {other!r} cannot be executed: {block}")

    def _shell(self, block: Block) -> None:
        if "greenroom serve" in block.text:
            self._served(block)
            return
        script = INSTALLS.sub("", block.text)
        if not script.strip():
            return
        if "npx " in script:
            self._with_node()
        if "curl " in script and shutil.which("curl") is None:
            pytest.skip("curl is not installed.")
        self._execute(["bash", "-euo", "pipefail", "-c", self._here(script)], block)

    def _execute(self, command: list[str], block: Block) -> None:
        if block.background:
            self._terminal = self._terminals.enter_context(
                Terminal(command, self._folder, self._environment)
            )
            self._terminal.until(lambda shown: shown != "")
            return
        done = subprocess.run(
            command,
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_PATIENCE_S,
        )
        self.printed = self._there(done.stdout)
        assert done.returncode == 0, f"{block}\n{self.printed}"

    def _compare(self, block: Block) -> None:
        if block.background:
            assert self._terminal is not None
            self._terminal.until(lambda shown: shows(block.text, self._there(shown)))
        else:
            assert shows(block.text, self.printed), f"{block}\n--- printed ---\n{self.printed}"

    def _look(self, block: Block) -> None:
        browser = self._request.getfixturevalue("browser")
        address, text = self._here(block.text.strip()).split(" shows: ")
        asyncio.run(browser.play("press", page=address, expected=text))

    def _operate(self, block: Block) -> None:
        visitor = self._request.getfixturevalue("visitor")
        steps = [line for line in self._here(block.text).splitlines() if line]
        told = asyncio.run(visitor.play("guide.followed", url=self._server.url, steps=steps))
        self.printed = told["shown"]

    def _served(self, block: Block) -> None:
        """The server of the tests has the graphs that this one would have, if it needs no own."""
        if block.own_server:
            quick = {"GREENROOM_HAPROXY": "false", "GREENROOM_GATEWAY_REPLICAS": "1"}
            given = environment_of(replace(block, text=self._here(block.text)))
            self._server = self._terminals.enter_context(
                serving(
                    self._folder / ".greenroom",
                    self._folder / FILE_NAME,
                    environment=quick | given,
                )
            )
            return
        assert len(block.text.splitlines()) == 1, f"It does not come back: {block}"
        if not (self._folder / FILE_NAME).exists():
            return  # the reader's own, or the examples
        found = httpx.post(f"{self._server.url}/assistants/search", json={"limit": 1000}).json()
        wanted = read_configuration(self._folder).graphs
        assert set(wanted) <= {assistant["graph_id"] for assistant in found}

    def _configuration(self, block: Block) -> None:
        content = json.loads(block.text)
        placed = content.get("greenroom", {}).get("graphs", {})
        parse_configuration(
            {"graphs": dict.fromkeys(placed or ["agent"], "./agent.py:graph"), **content},
            self._folder,
        )

    def _with_node(self) -> None:
        try:
            npm.node()
        except npm.Missing as missing:
            pytest.skip(f"{missing}.")
        modules = self._folder / "node_modules"
        if not modules.exists():
            modules.symlink_to(npm.HERE / "node_modules")

    def _here(self, text: str) -> str:
        """A text of the page, with the addresses and names of the tests, and less to wait for."""
        for there in (OURS, *ELSEWHERE):
            text = text.replace(there, self._server.url)
        for there, here in self._ports.items():
            text = re.sub(rf'(127\.0\.0\.1(?:", (?:port=)?|:)){there}\b', rf"\g<1>{here}", text)
        for there, here in OTHERWISE_NAMED.items():
            text = text.replace(f'"{there}"', f'"{here}"')
        for there, here in LESS_PATIENCE.items():
            text = text.replace(there, here)
        return text

    def _there(self, text: str) -> str:
        """What was printed, as a reader would see it."""
        text = text.replace(self._server.url, OURS)
        for there, here in self._ports.items():
            text = text.replace(f"127.0.0.1:{here}", f"127.0.0.1:{there}")
        return text


@pytest.fixture
def terminals() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_does_what_it_says(
    page: Path,
    tmp_path: Path,
    terminals: contextlib.ExitStack,
    request: pytest.FixtureRequest,
) -> None:
    reader = Reader(tmp_path, terminals, request)
    for block in blocks(page):
        reader.follow(block)


def test_the_first_tokens_of_the_readme_are_as_easy_as_it_says(
    tmp_path: Path, terminals: contextlib.ExitStack, request: pytest.FixtureRequest
) -> None:
    reader = Reader(tmp_path, terminals, request)
    talking = [block for block in blocks(ROOT / "README.md") if OURS in block.text]
    assert [block.language for block in talking] == ["sh", "python"]
    for block in talking:
        reader.follow(block)
        assert "You said: 'Hello'" in reader.printed or "event: messages" in reader.printed
