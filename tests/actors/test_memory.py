"""What a process no longer needs is given back to the system."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from actors.common import memory
from actors.common.memory import MemoryReturn
from greenroom.persistence.database import open_pool
from tests.waiting import until

MIB = 1024 * 1024
PROGRAM = """
import gc, sys, threading
from actors.common import memory
from greenroom.machine import ResidentMemory

MIB = 1024 * 1024
gc.set_threshold(10_000, 20, 20)
gc.freeze()
resident = ResidentMemory()
returning = memory.MemoryReturn()
begun = resident.bytes()

def grown():
    return (resident.bytes() - begun) // MIB

def cycles():
    for _ in range(200):
        one = [b"x" * MIB]
        one.append(one)

def later(s=100):
    memory.time.monotonic = lambda clock=memory.time.monotonic: clock() + s

def elsewhere(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
"""
GARBAGE = """
for _ in range(3):
    elsewhere(cycles)
    assert grown() > 150, grown()
    returning.look()
    assert grown() < 40, grown()
    later()
"""
LATER_GARBAGE = """
kept = [[b"x" * MIB] for _ in range(200)]
for one in kept:
    one.append(one)
returning.look()
assert grown() > 150, grown()
del kept, one
returning.look()
assert grown() > 150, "it looks at once"
later()
returning.look()
assert grown() < 40, grown()
"""
MANY_OBJECTS = """
memory.LONG_S = 0.0
elsewhere(cycles)
returning.look()
elsewhere(cycles)
later()
returning.look()
assert grown() > 150, "it looks through many objects again"
later(3600)
returning.look()
assert grown() < 40, grown()
"""
ASKED = """
returning.start()
elsewhere(cycles)
returning.now(10)
assert grown() < 40, grown()
"""


@pytest.mark.parametrize("what", [GARBAGE, LATER_GARBAGE, MANY_OBJECTS, ASKED])
def test_what_only_cycles_hold_is_given_back(what: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM + what],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
        env={"MALLOC_ARENA_MAX": "1"},
    )
    assert ended.returncode == 0, ended.stderr


async def test_a_process_that_stays_large_gets_new_connections(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL's library keeps room for the largest message that a connection had."""
    pool = await open_pool(dsn, application_name="memory", min_size=1, max_size=1)
    held = [0]
    monkeypatch.setattr(memory.ResidentMemory, "bytes", lambda _: held[0])
    monkeypatch.setattr(memory, "AGAIN_S", (0.0, 0.0))
    monkeypatch.setattr(memory, "MOST_OF_TIME", float("inf"))
    monkeypatch.setattr(memory, "LONG_S", float("inf"))  # this process has many objects

    async def backend() -> int:
        async with pool.connection() as connection:
            return connection.info.backend_pid

    try:
        returning = MemoryReturn()
        returning.renews(pool)
        first = await backend()
        held[0] = 2 * memory.GROWN_BYTES
        returning.look()
        assert await backend() == first, "it is in use"
        returning.look()

        async def renewed() -> bool:
            return await backend() != first

        await until(renewed)
        second = await backend()
        returning.look()
        assert await backend() == second, "once for each growth"
    finally:
        await pool.close()
