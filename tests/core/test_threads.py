"""A thread's status follows from how its last run ended and what is next in its state."""

from __future__ import annotations

import pytest

from greenroom.core.runs import RunStatus
from greenroom.core.threads import ThreadStatus, resting_status


@pytest.mark.parametrize("has_next", [False, True])
@pytest.mark.parametrize("last", [RunStatus.ERROR, RunStatus.TIMEOUT])
def test_a_failure_shows_on_the_thread_whatever_is_next(last: RunStatus, has_next: bool) -> None:
    assert resting_status(last, has_next=has_next) is ThreadStatus.ERROR


@pytest.mark.parametrize("last", [RunStatus.SUCCESS, RunStatus.INTERRUPTED])
def test_a_thread_with_a_next_step_is_interrupted_and_idle_without(last: RunStatus) -> None:
    assert resting_status(last, has_next=True) is ThreadStatus.INTERRUPTED
    assert resting_status(last, has_next=False) is ThreadStatus.IDLE
