"""Every strategy at every stage of a thread, as a table; then the chains that go wrong
elsewhere.
"""

from __future__ import annotations

import pytest

from greenroom.core.admission import (
    BUSY_MESSAGE,
    CHANGING_MESSAGE,
    Cancel,
    Claim,
    Drop,
    Effect,
    EndUnexecuted,
    Lane,
)
from greenroom.core.errors import Conflict, NotFound
from greenroom.core.lifecycle import Event, IllegalTransition, Life, State
from greenroom.core.runs import CancelAction, MultitaskStrategy

STRATEGIES: tuple[MultitaskStrategy, ...] = ("reject", "enqueue", "interrupt", "rollback")
ACTIONS: tuple[CancelAction, ...] = ("interrupt", "rollback")


def lane_with(*runs: str) -> Lane:
    """A lane after these runs were admitted by ``enqueue``; the first waits for its place."""
    lane = Lane("t")
    for run_id in runs:
        create(lane, run_id)
    return lane


def create(
    lane: Lane, run_id: str, strategy: MultitaskStrategy = "enqueue", *, delayed: bool = False
) -> list[Effect]:
    """Admits and stores a run, as the registry does when the database answers."""
    return [*lane.admit(run_id, strategy, delayed=delayed), *lane.admitted(run_id)]


def running(lane: Lane) -> Lane:
    assert lane.active is not None
    for event in (Event.GRANTED, Event.STORED):
        assert lane.active.life.on(event, actor="a")
    return lane


def requeued(lane: Lane) -> Lane:
    running(lane)
    assert lane.active is not None
    for event in (Event.LOST, Event.REQUEUED):
        assert lane.active.life.on(event)
    return lane


def stopping(action: CancelAction) -> Lane:
    lane = running(lane_with("A"))
    lane.cancel("A", action)
    return lane


def delayed() -> Lane:
    lane = Lane("t")
    create(lane, "A", delayed=True)
    return lane


def exclusive() -> Lane:
    lane = Lane("t")
    lane.begin_exclusive("op")
    return lane


def closing(lane: Lane) -> Lane:
    lane.close()
    return lane


STATES = {
    "free": lambda: Lane("t"),
    "waiting": lambda: lane_with("A"),
    "running": lambda: running(lane_with("A")),
    "requeued": lambda: requeued(lane_with("A")),
    "stopping by interrupt": lambda: stopping("interrupt"),
    "stopping by rollback": lambda: stopping("rollback"),
    "running and queued": lambda: running(lane_with("A", "Q")),
    "delayed": delayed,
    "exclusive": exclusive,
    "closing": lambda: closing(Lane("t")),
    "closing and stopping": lambda: closing(running(lane_with("A"))),
}

REFUSED = {
    "waiting": BUSY_MESSAGE,
    "running": BUSY_MESSAGE,
    "requeued": BUSY_MESSAGE,
    "stopping by interrupt": BUSY_MESSAGE,
    "stopping by rollback": BUSY_MESSAGE,
    "running and queued": BUSY_MESSAGE,
    "delayed": BUSY_MESSAGE,
    "exclusive": CHANGING_MESSAGE,
}

DISPLACED: dict[str, dict[CancelAction, list[Effect]]] = {
    "waiting": {a: [Drop("A", delete=a == "rollback"), Claim("N")] for a in ACTIONS},
    "running": {a: [Cancel("A", a)] for a in ACTIONS},
    "requeued": {a: [EndUnexecuted("A", a)] for a in ACTIONS},
    "stopping by interrupt": {a: [] for a in ACTIONS},
    "stopping by rollback": {a: [] for a in ACTIONS},
    "running and queued": {a: [Drop("Q", delete=a == "rollback"), Cancel("A", a)] for a in ACTIONS},
    "delayed": {a: [Claim("N"), Drop("A", delete=a == "rollback")] for a in ACTIONS},
    "free": {a: [Claim("N")] for a in ACTIONS},
    "exclusive": {a: [] for a in ACTIONS},
}

STARTS_AT_ONCE = {"free", "delayed"}
"""Where a run that displaces nobody is placed in the step that admits it."""


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_new_run_at_every_stage_under_every_strategy(
    state: str, strategy: MultitaskStrategy
) -> None:
    lane = STATES[state]()
    before = [ticket.run_id for ticket in lane]
    if state.startswith("closing"):
        with pytest.raises(NotFound):
            create(lane, "N", strategy)
        assert [ticket.run_id for ticket in lane] == before
        return
    if strategy == "reject" and state in REFUSED:
        with pytest.raises(Conflict) as refusal:
            create(lane, "N", strategy)
        assert refusal.value.message == REFUSED[state]
        assert [ticket.run_id for ticket in lane] == before
        return
    effects = create(lane, "N", strategy)
    if strategy in ("interrupt", "rollback"):
        assert effects == DISPLACED[state][strategy]
    else:
        assert effects == ([Claim("N")] if state in STARTS_AT_ONCE else [])
    placed = Claim("N") in effects
    ticket = lane.find("N")
    assert ticket is not None
    assert ticket.state is (State.WAITING if placed else State.QUEUED)


@pytest.mark.parametrize("state", [name for name in STATES if not name.startswith("closing")])
@pytest.mark.parametrize("strategy", ["enqueue", "interrupt", "rollback"])
def test_a_delayed_run_displaces_at_once_and_takes_no_turn_before_it_is_due(
    state: str, strategy: MultitaskStrategy
) -> None:
    lane = STATES[state]()
    effects = create(lane, "N", strategy, delayed=True)
    expected = [] if strategy == "enqueue" else DISPLACED[state][strategy]  # type: ignore[index]
    assert effects == [effect for effect in expected if effect != Claim("N")]
    ticket = lane.find("N")
    assert ticket is not None
    assert ticket.state is State.DELAYED


@pytest.mark.parametrize("state", ["waiting", "running", "running and queued", "delayed"])
@pytest.mark.parametrize("strategy", ["interrupt", "rollback"])
def test_an_admission_that_is_not_stored_leaves_the_others_as_they_were(
    state: str, strategy: MultitaskStrategy
) -> None:
    lane = STATES[state]()
    before = [(t.run_id, t.state, t.life.cancel) for t in lane]
    lane.admit("N", strategy, delayed=False)
    assert lane.ended("N") == []
    assert [(t.run_id, t.state, t.life.cancel) for t in lane] == before


def test_a_chain_of_interrupts_while_the_first_stops_executes_only_the_newest() -> None:
    lane = running(lane_with("A"))
    assert create(lane, "B", "interrupt") == [Cancel("A", "interrupt")]
    assert create(lane, "C", "interrupt") == [Drop("B", delete=False)]
    assert create(lane, "D", "interrupt") == [Drop("C", delete=False)]
    assert lane.ended("A") == [Claim("D")]


def test_a_chain_whose_admissions_are_stored_late_still_executes_only_the_newest() -> None:
    """B and C are both on their way to the database when A ends by itself."""
    lane = running(lane_with("A"))
    lane.admit("B", "interrupt", delayed=False)
    lane.admit("C", "interrupt", delayed=False)
    assert lane.ended("A") == [Claim("B")]
    assert lane.admitted("B") == []
    assert lane.admitted("C") == [Drop("B", delete=False), Claim("C")]


def test_a_newer_run_is_not_displaced_by_an_older_one_that_is_stored_after_it() -> None:
    lane = running(lane_with("A"))
    lane.admit("B", "interrupt", delayed=False)
    lane.admit("C", "enqueue", delayed=False)
    assert lane.admitted("B") == [Cancel("A", "interrupt")]
    assert lane.ended("A") == [Claim("B")]
    assert running(lane).ended("B") == [Claim("C")]


def test_a_run_that_was_cancelled_while_it_was_stored_displaces_nobody() -> None:
    lane = running(lane_with("A"))
    lane.admit("B", "rollback", delayed=False)
    assert lane.cancel("B", "interrupt") == [Drop("B", delete=False)]
    assert lane.admitted("B") == []
    assert lane.active is not None
    assert lane.active.state is State.RUNNING


def test_enqueue_is_first_come_first_served() -> None:
    lane = lane_with("A", "B", "C", "D")
    order = []
    while lane.active is not None:
        order.append(lane.active.run_id)
        running(lane).ended(lane.active.run_id)
    assert order == ["A", "B", "C", "D"]
    assert lane.is_empty


@pytest.mark.parametrize("first", ACTIONS)
@pytest.mark.parametrize("then", ACTIONS)
def test_the_first_stop_action_wins(first: CancelAction, then: CancelAction) -> None:
    lane = running(lane_with("A"))
    assert lane.cancel("A", first) == [Cancel("A", first)]
    assert lane.cancel("A", then) == []
    assert create(lane, "B", then) == []
    assert lane.active is not None
    assert lane.active.life.cancel == first


def test_rollback_deletes_pending_runs_and_interrupt_only_interrupts_them() -> None:
    for action in ACTIONS:
        lane = running(lane_with("A", "B"))
        create(lane, "C", delayed=True)
        dropped = [e for e in create(lane, "N", action) if isinstance(e, Drop)]
        assert dropped == [Drop(r, delete=action == "rollback") for r in ("B", "C")]


@pytest.mark.parametrize("action", ACTIONS)
def test_cancelling_a_run_that_never_ran_only_interrupts_it(action: CancelAction) -> None:
    lane = running(lane_with("A", "Q"))
    create(lane, "D", delayed=True)
    assert lane.cancel("Q", action) == [Drop("Q", delete=False)]
    assert lane.cancel("D", action) == [Drop("D", delete=False)]
    lane = lane_with("A", "B")
    assert lane.cancel("A", action) == [Drop("A", delete=False), Claim("B")]
    assert lane.cancel("A", action) == []


@pytest.mark.parametrize("action", ACTIONS)
def test_a_run_that_lost_its_actor_is_settled_before_the_next_begins(action: CancelAction) -> None:
    """Its first attempt has left checkpoints: a rollback has something to take back."""
    lane = requeued(lane_with("A", "B"))
    assert lane.cancel("A", action) == [EndUnexecuted("A", action)]
    assert lane.active is not None
    assert (lane.active.run_id, lane.active.life.cancel) == ("A", action)
    assert not lane.is_waiting("A")
    assert lane.ended("A") == [Claim("B")]


def test_the_thread_stays_taken_until_the_stopped_run_has_stopped() -> None:
    lane = stopping("interrupt")
    create(lane, "B", "interrupt")
    with pytest.raises(Conflict):
        create(lane, "C", "reject")
    with pytest.raises(Conflict):
        lane.begin_exclusive("op")
    assert lane.ended("A") == [Claim("B")]


def test_a_delayed_run_that_is_due_goes_behind_what_was_queued_meanwhile() -> None:
    lane = running(lane_with("A"))
    create(lane, "D", delayed=True)
    create(lane, "B")
    assert lane.due("D") == []
    assert lane.ended("A") == [Claim("B")]
    assert running(lane).ended("B") == [Claim("D")]


def test_a_delayed_run_that_is_due_on_a_free_thread_takes_its_turn() -> None:
    lane = delayed()
    assert lane.due("A") == [Claim("A")]
    assert lane.due("A") == []


def test_a_delayed_run_that_was_dropped_is_never_due() -> None:
    lane = delayed()
    lane.cancel("A", "interrupt")
    assert lane.due("A") == []
    assert lane.is_empty


def test_a_requeued_run_keeps_the_thread() -> None:
    lane = requeued(lane_with("A", "B"))
    assert lane.is_waiting("A")
    assert not lane.is_waiting("B")
    running(lane)
    assert lane.ended("A") == [Claim("B")]


@pytest.mark.parametrize("state", [name for name in STATES if name != "free"])
def test_an_exclusive_operation_needs_a_free_thread(state: str) -> None:
    lane = STATES[state]()
    with pytest.raises(NotFound if state.startswith("closing") else Conflict):
        lane.begin_exclusive("mine")
    assert lane.exclusive in (None, "op")


def test_runs_wait_for_an_exclusive_operation_in_order() -> None:
    lane = exclusive()
    assert create(lane, "A") == []
    assert create(lane, "B") == []
    assert lane.end_exclusive("another") == []
    assert lane.end_exclusive("op") == [Claim("A")]
    assert lane.end_exclusive("op") == []


def test_a_thread_that_is_closed_drops_what_waits_stops_what_runs_and_opens_again() -> None:
    lane = running(lane_with("A", "B"))
    create(lane, "D", delayed=True)
    assert lane.close() == [
        Drop("B", delete=False),
        Drop("D", delete=False),
        Cancel("A", "interrupt"),
    ]
    with pytest.raises(NotFound):
        lane.close()
    assert not lane.is_free
    lane.ended("A")
    assert lane.is_free
    assert not lane.is_empty
    lane.reopen()
    assert lane.is_empty
    assert create(lane, "N") == [Claim("N")]


def test_a_restart_keeps_the_order_and_the_one_that_runs() -> None:
    lane = Lane("t")
    lane.restore("A", Life(State.RUNNING, attempt=1, actor="a", stored=1), "enqueue")
    lane.restore("D", Life(State.DELAYED), "enqueue")
    lane.restore("B", Life(State.QUEUED), "enqueue")
    lane.restore("C", Life(State.QUEUED), "reject")
    assert lane.resume() == []
    assert lane.ended("A") == [Claim("B")]
    assert lane.due("D") == []
    assert [ticket.run_id for ticket in lane] == ["B", "C", "D"]


def test_a_restart_gives_the_turn_to_the_run_that_had_lost_its_actor() -> None:
    """A delayed run from before it, due meanwhile, must not come between its two attempts."""
    lane = Lane("t")
    lane.restore("D", Life(State.QUEUED), "enqueue")
    lane.restore("A", Life(State.WAITING, attempt=1, stored=1), "enqueue")
    assert lane.resume() == [Claim("A")]
    running(lane)
    assert lane.ended("A") == [Claim("D")]


@pytest.mark.parametrize("action", ACTIONS)
def test_a_restart_displaces_again_what_had_not_stopped(action: CancelAction) -> None:
    lane = Lane("t")
    assert lane.restore("A", Life(State.RUNNING, attempt=1, actor="a", stored=1), "enqueue") == []
    assert lane.restore("B", Life(State.QUEUED), "enqueue") == []
    assert lane.restore("C", Life(State.QUEUED), action) == [
        Drop("B", delete=action == "rollback"),
        Cancel("A", action),
    ]
    assert lane.resume() == []
    assert lane.ended("A") == [Claim("C")]


def test_what_is_not_there_changes_nothing() -> None:
    lane = lane_with("A")
    assert lane.cancel("nobody", "interrupt") == []
    assert lane.ended("nobody") == []
    assert lane.due("nobody") == []
    assert lane.admitted("nobody") == []
    assert lane.is_waiting("A")


def test_a_second_active_run_is_refused_and_the_lane_stays_as_it_is() -> None:
    lane = Lane("t")
    lane.restore("A", Life(State.RUNNING, attempt=1, actor="a", stored=1), "enqueue")
    lane.restore("C", Life(State.QUEUED), "enqueue")
    before = [(ticket.run_id, ticket.state) for ticket in lane]
    for state in (State.RUNNING, State.WAITING):
        with pytest.raises(IllegalTransition, match="A and B"):
            lane.restore("B", Life(state, attempt=1), "rollback")
    assert [(ticket.run_id, ticket.state) for ticket in lane] == before
