"""How xdist spreads the tests over the processes of `make test`. A part of `tests/conftest.py`.

Tests of a server wait for most of their time, and two of its processes cannot fill two cores. The
last process of three or more takes what the others leave: tests that share no server, at the lower
priority of what computes in a server, so that no server starves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

TOGETHER = 8
"""So many tests without a group are sent as one message: a message takes 0.5 ms."""


def is_last(worker: str, count: int) -> bool:
    """Whether this process, by xdist's name for it, takes what the others leave."""
    return count > 2 and worker == f"gw{count - 1}"


class ByGroup(LoadScopeScheduling):
    """A group of tests stays in one process; the others go to any that is free, a few at once.

    Args:
        group_of: the group of a test by its id; the id itself for a test without one.
    """

    def __init__(self, config: Any, log: Any, group_of: Callable[[str], str]) -> None:
        super().__init__(config, log)
        self._group_of = group_of
        self._unit_of: dict[str, str] = {}
        self._few: list[str] = []

    def _split_scope(self, nodeid: str) -> str:
        if nodeid not in self._unit_of:
            self._unit_of[nodeid] = self._unit(nodeid)
        return self._unit_of[nodeid]

    def _unit(self, nodeid: str) -> str:
        """The group; of tests without one a few are sent together, under the id of the first."""
        group = self._group_of(nodeid)
        if group != nodeid:
            return group
        if len(self._few) == TOGETHER:
            self._few.clear()
        self._few.append(nodeid)
        return self._few[0]

    def _assign_work_unit(self, node: WorkerController) -> None:
        unit = next(filter(self._fits(node), self.workqueue), None)
        if unit is None:
            node.shutdown()
            return
        tests = self.assigned_work[node][unit] = self.workqueue.pop(unit)
        places = self.registered_collections[node]
        node.send_runtest_some(
            [places.index(test) for test, is_over in tests.items() if not is_over]
        )

    def mark_test_complete(
        self, node: WorkerController, item_index: int, duration: float = 0
    ) -> None:
        super().mark_test_complete(node, item_index, duration)
        # Else each test that ends looks through all that have ended before.
        units = self.assigned_work[node]
        unit = self._split_scope(self.registered_collections[node][item_index])
        if all(units[unit].values()):
            del units[unit]

    def _fits(self, node: WorkerController) -> Callable[[str], bool]:
        last = is_last(node.workerinput["workerid"], node.workerinput["workercount"])
        return lambda unit: not last or "::" in unit  # the id of a test, no group
