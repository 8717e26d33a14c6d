"""Whose frames are shown to whom, and what is done if the actor does not answer."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import pytest

from actors.calls.directory import Handles
from actors.common.actor_process import ActorProcess
from actors.common.neighbours import Neighbours, Sample, parsed, stacks_by_signal
from actors.gateway.machines import Machines
from actors.gateway.stacks import stacks
from actors.registry.executed_runs import Executed
from greenroom.core.errors import Unavailable, Unreachable
from tests.waiting import BOUND_S

FRAME = {"file": "g.py", "line": 1, "function": "f", "source": "pass"}


def thread(name: str, owner: str, thread_id: int = 1) -> dict[str, Any]:
    return {"name": name, "id": thread_id, "owner": owner, "frames": [FRAME]}


class Process:
    """Handles and machines of one process."""

    def __init__(self, look: Any, written: Any = ()) -> None:
        self.look = look
        self.written = written

    async def call(self, name: str, method: str, *, within_s: float) -> Any:
        assert (name, method) == ("run-1", "look")
        if isinstance(self.look, Exception):
            raise self.look
        return self.look

    async def sample(self, processes: Any) -> dict[str, Sample]:
        return {"run-1": Sample(memory_bytes=5, cpu_percent=1.5)}

    async def stacks(self, process: ActorProcess) -> Any:
        if isinstance(self.written, Exception):
            raise self.written
        return [*self.written]

    async def shown(self, readable: set[str], **changes: Any) -> dict[str, Any]:
        process = ActorProcess(
            pid=7, host="h", node="n", table="t", since_s=1.0, dumps=3, thread_id=1
        )
        given: dict[str, Any] = {
            "actor": "run-1",
            "attempt": 1,
            "process": process,
            "isolated": False,
            "threads": {"mine": "t1", "other": "t2"},
        }
        return await stacks(
            cast(Handles, self),
            cast(Machines, self),
            "mine",
            Executed(**(given | changes)),
            readable,
        )


def look() -> dict[str, Any]:
    return {
        "nodes": {"mine": [{"node": "n", "namespace": "", "step": 1, "since_ms": 1000}]},
        "threads": [thread("a", "mine"), thread("b", "other"), thread("c", "")],
        "tasks": [
            {"name": "n", "owner": "mine", "node": "n", "frames": [FRAME]},
            {"name": "n", "owner": "other", "node": "n", "frames": [FRAME]},
        ],
    }


def seen(shown: dict[str, Any]) -> list[tuple[bool, bool]]:
    both = [*shown["threads"], *shown["tasks"]]
    assert not any("owner" in each for each in both)
    assert all(bool(each["frames"]) is not each.get("hidden", False) for each in both)
    return [(each["of_this_run"], bool(each["frames"])) for each in both]


async def test_frames_of_runs_that_the_reader_may_not_read_are_hidden() -> None:
    shown = await Process(look()).shown({"mine"})
    assert shown["by"] == "actor"
    assert seen(shown) == [(True, True), (False, False), (False, False), (True, True), (False, False)]  # fmt: skip # noqa: E501
    assert "other" not in str(shown)
    assert shown["nodes"][0]["since"] == "1970-01-01T00:00:01+00:00"
    assert (shown["memory_bytes"], shown["cpu_percent"]) == (5, 1.5)


async def test_who_may_read_all_runs_of_the_process_sees_all_of_it() -> None:
    shown = await Process(look()).shown({"mine", "other"})
    assert [frames for _, frames in seen(shown)] == [True] * 5


async def test_of_a_signal_nobody_sees_a_process_that_also_has_runs_of_others() -> None:
    written = [thread("", "", 1), thread("", "", 2)]
    process = Process(Unreachable("silent"), written)
    shown = await process.shown({"mine"})
    assert shown["by"] == "signal"
    assert seen(shown) == [(False, False), (False, False)]
    process.written = [thread("", "", 1), thread("", "", 2)]
    shown = await process.shown({"mine"}, isolated=True, threads={"mine": "t1"})
    assert seen(shown) == [(True, True), (False, True)]


@pytest.mark.parametrize("written", [(), FileNotFoundError("gone"), Unreachable("no lookout")])
async def test_a_process_that_shows_nothing_is_unavailable(written: Any) -> None:
    with pytest.raises(Unavailable, match="Try again"):
        await Process(Unreachable("silent"), written).shown({"mine"})


PROGRAM = """
import faulthandler, re, signal, sys
from actors.common.neighbours import STACKS
from greenroom.machine import shared_file

def holds_the_lock():
    re.match(r"(a+)+$", "a" * 60 + "b")

opened = shared_file(STACKS)
faulthandler.register(signal.SIGUSR2, file=opened, all_threads=True, chain=False)
print(opened, flush=True)
holds_the_lock()
"""


def test_a_process_that_holds_its_interpreter_writes_its_stacks_on_a_signal() -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            opened = int(process.stdout.readline())
            until_s = time.monotonic() + BOUND_S
            while True:
                threads = parsed(stacks_by_signal(process.pid, opened))
                functions = [each["function"] for one in threads for each in one["frames"]]
                if "holds_the_lock" in functions or time.monotonic() > until_s:
                    break
            assert "holds_the_lock" in functions
            again = parsed(stacks_by_signal(process.pid, opened))
            assert len(again) == len(threads), "the file is emptied before each look"
            neighbours = Neighbours()
            first = neighbours.sample([process.pid])[process.pid]
            assert first.memory_bytes > 1_000_000
            assert first.cpu_percent is None
            assert neighbours.sample([process.pid])[process.pid].cpu_percent is not None
            with pytest.raises(OSError, match="another file"):
                stacks_by_signal(process.pid, 0)
            assert process.poll() is None, "no signal was sent"
        finally:
            process.kill()
    with pytest.raises(OSError, match="No such file"):
        stacks_by_signal(process.pid, opened)
    assert Neighbours().sample([process.pid]) == {}


def test_what_the_fault_handler_writes_is_read_with_and_without_names() -> None:
    this = Path(__file__)
    lines = this.read_text(encoding="utf-8").splitlines()
    number = next(n for n, line in enumerate(lines, 1) if line.startswith("PROGRAM"))
    written = (
        "Thread 0x00007f00 [node_0] (most recent call first):\n"
        f'  File "{this}", line {number} in f\n'
        "\n"
        "Current thread 0x00007f01 (most recent call first):\n"
        '  File "<frozen x>", line ??? in g\n'
        "  <no Python frame>\n"
    )
    first, second = parsed(written)
    assert (first["name"], first["id"]) == ("node_0", 0x7F00)
    assert re.match("PROGRAM", first["frames"][0]["source"])
    assert second["frames"] == [{"file": "<frozen x>", "line": None, "function": "g", "source": ""}]
