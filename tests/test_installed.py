"""What tries the wheel (`make wheel-test`) notices what it is there to notice."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.installed import Failed, check_contents, processes_of, wanted_files


def packed(folder: Path, names: set[str]) -> Path:
    wheel = folder / "greenroom-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as opened:
        for name in {*names, "greenroom-1.dist-info/RECORD"}:
            opened.writestr(name, "")
    return wheel


def test_a_wheel_with_everything_is_accepted(tmp_path: Path) -> None:
    check_contents(packed(tmp_path, wanted_files()))


@pytest.mark.parametrize(
    "name",
    [
        "serve_app.py",
        "greenroom/examples/langgraph.json",
        "greenroom/examples/greenroom_examples/chat.py",
        "greenroom/persistence/migrations/before/0001_records.sql",
        "actors/spawn.py",
    ],
)
def test_a_file_that_is_missing_is_named(name: str, tmp_path: Path) -> None:
    assert name in wanted_files()
    with pytest.raises(Failed, match=f"lacks .'{name}'. "):
        check_contents(packed(tmp_path, wanted_files() - {name}))


def test_a_file_that_nobody_needs_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"has .'tests/conftest\.py'. that nobody needs"):
        check_contents(packed(tmp_path, {*wanted_files(), "tests/conftest.py"}))


@pytest.mark.parametrize("trace", ["command line", "working directory"])
def test_a_process_that_is_left_over_is_found(trace: str, tmp_path: Path) -> None:
    waits = "import sys; print(flush=True); sys.stdin.read()"
    argument = [str(tmp_path)] if trace == "command line" else []
    with subprocess.Popen(
        [sys.executable, "-c", waits, *argument],
        cwd="/" if argument else tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert [each.pid for each in processes_of(tmp_path)] == [process.pid]
        process.communicate()
    assert processes_of(tmp_path) == []
