"""The transition table is the only way in which a status changes."""

from __future__ import annotations

import re

import pytest

from greenroom.core import runs
from greenroom.core.runs import TRANSITIONS, IllegalTransition, RunChange, RunStatus, successor

PENDING, RUNNING = RunStatus.PENDING, RunStatus.RUNNING

LEGAL = {
    (PENDING, RunChange.START): RUNNING,
    (PENDING, RunChange.INTERRUPT): RunStatus.INTERRUPTED,
    (PENDING, RunChange.FAIL): RunStatus.ERROR,
    (RUNNING, RunChange.REQUEUE): PENDING,
    (RUNNING, RunChange.SUCCEED): RunStatus.SUCCESS,
    (RUNNING, RunChange.FAIL): RunStatus.ERROR,
    (RUNNING, RunChange.TIME_OUT): RunStatus.TIMEOUT,
    (RUNNING, RunChange.INTERRUPT): RunStatus.INTERRUPTED,
}


@pytest.mark.parametrize("change", RunChange)
@pytest.mark.parametrize("status", RunStatus)
def test_every_pair_of_status_and_change_is_legal_or_refused(
    status: RunStatus, change: RunChange
) -> None:
    expected = LEGAL.get((status, change))
    if expected is not None:
        assert successor(status, change) is expected
        return
    with pytest.raises(IllegalTransition, match=f"A run that is {status} cannot {change}"):
        successor(status, change)


def test_a_run_that_is_over_stays_as_it_is() -> None:
    terminal = {status for status in RunStatus if status.is_terminal}
    assert terminal == set(RunStatus) - {PENDING, RUNNING}
    assert not [pair for pair in TRANSITIONS if pair[0] in terminal]


def test_every_status_can_be_reached_from_pending() -> None:
    reached = {PENDING}
    for _ in RunStatus:
        reached |= {after for (before, _), after in TRANSITIONS.items() if before in reached}
    assert reached == set(RunStatus)


def test_the_diagram_at_the_head_of_the_module_shows_the_table() -> None:
    diagram = (runs.__doc__ or "").partition("A run that stops")[0]
    forward = re.search(r"pending ──start──> running ──finish──> (.+)", diagram)
    assert forward is not None
    finished = {word.strip() for word in forward[1].split("|")}
    assert finished == {str(s) for (b, _), s in TRANSITIONS.items() if b is RUNNING} - {"pending"}
    aside = dict(re.findall(r"──(cancel|give_up)──> (\w+)", diagram))
    assert aside == {"cancel": "interrupted", "give_up": "error"}
    assert set(aside.values()) == {
        str(after)
        for (before, change), after in TRANSITIONS.items()
        if before is PENDING and change is not RunChange.START
    }
    assert "requeue" in diagram
