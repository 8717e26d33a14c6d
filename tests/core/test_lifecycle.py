"""The table is the only way in which a run's state changes; every pair is decided."""

from __future__ import annotations

import pytest

from greenroom.core.lifecycle import (
    IGNORED,
    STATUS,
    TABLE,
    Do,
    Event,
    IllegalTransition,
    Life,
    State,
)
from greenroom.core.runs import RunStatus

EXECUTED = (State.ORDERED, State.RUNNING, State.CANCELLING)


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("state", State)
def test_every_pair_changes_the_state_or_is_ignored_or_is_a_bug(state: State, event: Event) -> None:
    life = Life(state, attempt=1, actor="a" if state in EXECUTED else None)
    actor = "b" if event is Event.GRANTED else None
    if (state, event) in IGNORED:
        assert life.on(event, actor=actor) == ()
        assert life.state is state
    elif (state, event) in TABLE:
        assert (life.state, life.on(event, actor=actor)) == (state, TABLE[state, event][1])
        assert life.state is TABLE[state, event][0]
    else:
        with pytest.raises(IllegalTransition, match=f"A run that is {state} cannot be {event}"):
            life.on(event, actor=actor)
        assert life.state is state


def test_nothing_is_both_ignored_and_in_the_table() -> None:
    assert not IGNORED & TABLE.keys()


@pytest.mark.parametrize("state", [state for state in State if state is not State.ENDING])
def test_every_run_can_be_given_up_or_comes_to_where_it_can(state: State) -> None:
    assert TABLE[state, Event.GIVE_UP] == (State.ENDING, (Do.END,))


def test_an_end_is_decided_once() -> None:
    """Whichever event decides it, only that one is told to store it."""
    for state, event in TABLE:
        after, effects = TABLE[state, event]
        ends = {Do.END, Do.END_UNEXECUTED} & set(effects)
        assert bool(ends) == (after is State.ENDING)
        if after is State.ENDING:
            life = Life(state, attempt=1)
            life.on(event)
            assert all(life.on(later) == () for later in Event)


def test_every_state_is_reached_from_the_first_ones_and_ends() -> None:
    reached = {State.DELAYED, State.QUEUED}
    for _ in State:
        reached |= {after for (before, _), (after, _) in TABLE.items() if before in reached}
    assert reached == set(State)


@pytest.mark.parametrize(
    "event", [Event.REPORTED, Event.HANDED_BACK, Event.LOST, Event.STORED, Event.OVERDUE]
)
def test_what_is_not_about_the_current_attempt_and_actor_is_dropped(event: Event) -> None:
    life = Life(State.RUNNING, attempt=2, actor="a", stored=2)
    assert life.on(event, attempt=1, actor="a") is None
    assert life.on(event, attempt=2, actor="b") is None
    assert life == Life(State.RUNNING, attempt=2, actor="a", stored=2)


def test_the_first_cancel_wins_in_every_state() -> None:
    for state in (State.RUNNING, State.LOST):
        life = Life(state, attempt=1)
        assert life.on(Event.CANCEL, action="rollback") == (Do.TELL,)
        assert life.on(Event.CANCEL, action="interrupt") == ()
        assert life.cancel == "rollback"


def test_an_attempt_is_named_only_when_it_is_durable() -> None:
    life = Life()
    life.on(Event.TURN)
    life.on(Event.GRANTED, actor="a")
    assert (life.attempt, life.actor, life.is_executed) == (1, "a", False)
    life.on(Event.STORED)
    assert life.is_executed
    life.on(Event.LOST, actor="a")
    assert (life.actor, life.is_executed) == (None, False)


def test_a_run_is_running_in_the_database_exactly_while_it_has_an_actor() -> None:
    assert {s for s, status in STATUS.items() if status is RunStatus.RUNNING} == set(EXECUTED)
    assert set(STATUS) == set(State) - {State.ENDING}
    for (before, _), (after, effects) in TABLE.items():
        if after is State.ENDING:
            continue
        if STATUS[before] is RunStatus.RUNNING and STATUS[after] is RunStatus.PENDING:
            assert effects == (Do.REQUEUE,)
        if STATUS[before] is RunStatus.PENDING and STATUS[after] is RunStatus.RUNNING:
            assert effects == (Do.START,)
