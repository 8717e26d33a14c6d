"""The garbage collector pauses while a worker of Ray's loads its libraries, and only then."""

from __future__ import annotations

import contextlib
import gc
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from ray._private.workers import default_worker

from actors.common.garbage import PROGRAM as RAYS
from actors.common.garbage import without_collections

PROGRAM = """
import gc
import {module}
print(gc.isenabled())
from actors.common.garbage import freeze_startup_objects
freeze_startup_objects()
print(gc.isenabled(), gc.get_threshold()[0], gc.get_freeze_count() > 10_000)
"""


@pytest.mark.parametrize("module", ["actors.run.actor", "actors.inspector.actor"])
@pytest.mark.parametrize("program", [RAYS, "other.py"])
def test_a_worker_collects_nothing_until_it_has_loaded_its_libraries(
    tmp_path: Path, program: str, module: str
) -> None:
    file = tmp_path / program
    file.write_text(PROGRAM.format(module=module))
    ended = subprocess.run([sys.executable, file], capture_output=True, text=True, timeout=60)
    loaded, frozen = ended.stdout.splitlines()
    assert loaded == str(program != RAYS)
    assert frozen == "True 10000 True"


def test_that_is_the_program_of_rays_workers() -> None:
    """Otherwise nothing pauses: a start takes a sixth longer, and nothing else changes."""
    assert Path(inspect.getfile(default_worker)).name == RAYS


@pytest.mark.parametrize("fails", [False, True])
def test_imports_of_a_server_collect_nothing_and_are_not_looked_through(fails: bool) -> None:
    before = gc.get_freeze_count()
    with contextlib.suppress(ImportError), without_collections():
        made = [[n] for n in range(1000)]
        assert not gc.isenabled()
        if fails:
            raise ImportError
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + len(made)
