"""A server leaves no process behind, also none that has detached from it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]

STARTER = """
import subprocess, sys, time

import psutil

from actors.server import processes
from greenroom.machine import adopt_orphans

assert adopt_orphans()
# A shell that ends at once: what it started is an orphan, in a session of its own.
subprocess.run(["sh", "-c", "setsid sleep 600 & echo $!"], check=True)
child = subprocess.Popen([sys.executable, "-c", {child!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
begun = time.monotonic()
spared = [psutil.Process(subprocess.Popen(["sh", "-c", "sleep 600; true"]).pid)]
while not spared[0].children():
    time.sleep(0.01)
processes.end_descendants({grace_s}, spared=spared)
assert spared[0].is_running() and spared[0].children(), "it was to stay"
processes.end_descendants({grace_s})
print(time.monotonic() - begun, flush=True)
print(processes.descendants(), flush=True)
"""
ORPHANING = """
import subprocess, sys

from actors.server import processes

# A shell that ends at SIGTERM; what it started defies it, and is then nobody's descendant.
child = subprocess.Popen(
    ["sh", "-c", 'setsid "$0" -c "$1" & wait', sys.executable, {child!r}], stdout=subprocess.PIPE
)
child.stdout.readline()
print(processes.descendants()[-1].pid, flush=True)
processes.end_descendants(0.5)
"""
OBEYS = "import time; print(flush=True); time.sleep(600)"
DEFIES = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True);"
    " time.sleep(600)"
)


def test_without_a_subreaper_an_orphan_that_was_seen_is_ended_too() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ORPHANING.format(child=DEFIES)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with contextlib.suppress(psutil.NoSuchProcess):
        assert psutil.Process(int(done.stdout)).status() == psutil.STATUS_ZOMBIE


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")
@pytest.mark.parametrize(("child", "grace_s"), [(OBEYS, 60.0), (DEFIES, 0.5)])
def test_every_descendant_is_ended_also_an_orphan(child: str, grace_s: float) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STARTER.format(child=child, grace_s=grace_s)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    orphan, pid, took_s, left = done.stdout.splitlines()
    assert left == "[]"
    assert not psutil.pid_exists(int(orphan))
    assert not psutil.pid_exists(int(pid))
    if child == OBEYS:
        assert float(took_s) < grace_s
