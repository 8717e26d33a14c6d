"""The notebooks show what is committed, and leave nothing behind. `make notebooks` runs them."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

from tests.notebook.executing import NOTEBOOKS, end, execute

ALL = sorted(NOTEBOOKS.glob("*.ipynb"))
GONE_PATIENCE_S = 60.0
MAX_BYTES = 400_000


def read(file: Path) -> Any:
    return nbformat.read(file, as_version=4)


def test_there_are_notebooks() -> None:
    assert [file.stem[:2] for file in ALL] == [f"{n:02d}" for n in range(1, len(ALL) + 1)]
    assert len(ALL) >= 6


@pytest.mark.parametrize("file", ALL, ids=lambda file: file.stem)
def test_a_notebook_says_first_what_it_shows_and_is_committed_with_its_outputs(file: Path) -> None:
    notebook = read(file)
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    assert re.match(r"# .+\n\n.{40,}", first.source, re.DOTALL)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 1
    text = file.read_text()
    assert len(text) < MAX_BYTES
    assert not re.findall(r"(?:/tmp|/root|/home|/work|/Users)/\S*", text)


def test_when_the_kernel_of_a_notebook_is_killed_nothing_is_left() -> None:
    """The beginning of the quickstart: its room is open, and a run was watched in it."""
    notebook = read(NOTEBOOKS / "01_quickstart.ipynb")
    sources = [cell.source.partition("(")[0] for cell in notebook.cells]
    del notebook.cells[sources.index("room.watch") + 1 :]
    client = execute(notebook, NOTEBOOKS)
    try:
        kernel = psutil.Process(client.km.provisioner.pid)
        descendants = kernel.children(recursive=True)
        assert any("raylet" in process.name() for process in descendants)
        (folder,) = [
            Path(process.cmdline()[-1])
            for process in descendants
            if "greenroom.room_server" in process.cmdline()
        ]
        os.kill(kernel.pid, signal.SIGKILL)
        deadline_s = time.monotonic() + GONE_PATIENCE_S
        left = descendants
        while left and time.monotonic() < deadline_s:
            left = [process for process in left if _lives(process)]
            time.sleep(0.1)
        assert left == []
        assert not folder.exists()
    finally:
        end(client)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
