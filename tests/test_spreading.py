"""Which process of `make test` executes which tests."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from xdist.remote import Producer

from tests.spreading import TOGETHER, ByGroup

GROUPED = [f"one/test_a.py::test_{n}" for n in range(5)]
OTHERS = [f"two/test_b.py::test_{n}" for n in range(5)]
ALONE = [f"three/test_c.py::test_{n}" for n in range(20)]


@dataclass(eq=False)
class Process:
    """A process of xdist, which does what it is sent.

    Attributes:
        waiting: the numbers of the tests that it was sent and has not executed.
        executed: those that it has.
    """

    workerinput: dict[str, Any]
    gateway: Any = None
    shutting_down: bool = False
    waiting: list[int] = field(default_factory=list)
    executed: list[int] = field(default_factory=list)

    def send_runtest_some(self, numbers: list[int]) -> None:
        assert not self.shutting_down
        self.waiting += numbers

    def shutdown(self) -> None:
        self.shutting_down = True


def spread(tests: list[str], count: int) -> list[list[str]]:
    """The tests that each of so many processes executes; they take turns, a test each."""

    def group_of(node_id: str) -> str:
        return node_id.partition("/")[0] if node_id not in ALONE else node_id

    option = SimpleNamespace(loadscopereorder=False)
    config: Any = SimpleNamespace(option=option, getvalue=lambda name: ["popen"] * count)
    schedule = ByGroup(config, Producer("test", enabled=False), group_of)
    processes = [
        Process({"workerid": f"gw{n}", "workercount": count}, SimpleNamespace(id=f"gw{n}"))
        for n in range(count)
    ]
    for process in processes:
        schedule.add_node(process)  # type: ignore[arg-type]
        schedule.add_node_collection(process, tests)  # type: ignore[arg-type]
    schedule.schedule()
    while any(process.waiting for process in processes):
        for process in processes:
            # It begins a test when it knows the next one.
            if len(process.waiting) > 1 or (process.waiting and process.shutting_down):
                number = process.waiting.pop(0)
                process.executed.append(number)
                schedule.mark_test_complete(process, number)  # type: ignore[arg-type]
                assert len(schedule.assigned_work[process]) <= 3  # type: ignore[index]
    assert all(process.shutting_down for process in processes)
    assert schedule.tests_finished
    assert not schedule.has_pending
    return [[tests[number] for number in process.executed] for process in processes]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_each_test_is_executed_once_and_a_group_by_one_process(count: int) -> None:
    tests = [*GROUPED, *OTHERS, *ALONE]
    found = spread(tests, count)
    assert sorted(test for each in found for test in each) == sorted(tests)
    where = defaultdict(set)
    for number, executed in enumerate(found):
        for test in executed:
            where[test.partition("/")[0]].add(number)
    assert len(where["one"]) == len(where["two"]) == 1


def test_two_processes_begin_with_a_group_each() -> None:
    assert [each[0] for each in spread([*GROUPED, *OTHERS, *ALONE], 2)] == [GROUPED[0], OTHERS[0]]


@pytest.mark.parametrize("count", [3, 4])
def test_the_last_of_more_than_two_takes_no_group(count: int) -> None:
    last = spread([*GROUPED, *OTHERS, *ALONE], count)[-1]
    assert last
    assert set(last) <= set(ALONE)


def test_what_has_no_group_is_sent_a_few_at_once() -> None:
    first, second = spread(ALONE, 2)
    assert first[:TOGETHER] == ALONE[:TOGETHER]
    assert second[:TOGETHER] == ALONE[TOGETHER : 2 * TOGETHER]


def test_the_last_ends_at_once_if_all_tests_have_a_group() -> None:
    assert spread([*GROUPED, *OTHERS], 3) == [GROUPED, OTHERS, []]
