"""Random double texting on one thread against a simple model of what must hold.

The rules are what clients, actors, timers and the database may do, in any order, also what comes
late or twice; they drive the table of `greenroom.core.lifecycle` and its `Lane`. The effects are
performed into a model world (which runs exist, which actor executes), and a registry restart
rebuilds the lane from the model's database alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from greenroom.core.admission import Cancel, Claim, Drop, Effect, EndUnexecuted, Lane
from greenroom.core.errors import Conflict, NotFound
from greenroom.core.lifecycle import STATUS, Do, Event, Life, State
from greenroom.core.runs import CancelAction, MultitaskStrategy, RunStatus

strategies = st.sampled_from(["reject", "enqueue", "interrupt", "rollback"])
actions = st.sampled_from(["interrupt", "rollback"])
picks = st.integers(min_value=0, max_value=1_000)


@dataclass
class Row:
    """A run in the model database."""

    run_id: str
    strategy: MultitaskStrategy
    delayed: bool
    stored: bool = False
    running: bool = False
    attempt: int = 0
    actor: str | None = None
    life: Life = field(default_factory=Life)
    end: str | None = None


def number(run_id: str) -> int:
    return int(run_id[1:])


class DoubleTexting(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.lane = Lane("t")
        self.rows: dict[str, Row] = {}
        self.storing: list[str] = []
        self.in_line: set[str] = set()
        self.told: dict[str, CancelAction] = {}
        self.begun: list[str] = []
        self.exclusive_held = False
        self.closing = False
        self.cancelled = ""

    # --- the world ---------------------------------------------------------------------------

    def perform(self, effects: list[Effect], *, by: str | None = None) -> None:
        """``by`` is the run that displaces others, the run that is cancelled, or None."""
        for effect in effects:
            if isinstance(effect, Drop | Cancel | EndUnexecuted) and by is not None:
                displaces = number(effect.run_id) < number(by)
                assert displaces or effect.run_id == self.cancelled, "nobody asked for this"
            match effect:
                case Claim(run_id):
                    assert run_id not in self.in_line, "placed twice"
                    assert not any(row.running for row in self.rows.values())
                    self.in_line.add(run_id)
                case Drop(run_id, delete):
                    assert self.rows[run_id].attempt == 0, "a run that has run is settled"
                    self.in_line.discard(run_id)
                    self.over(run_id, "deleted" if delete else "interrupted")
                case Cancel(run_id, action):
                    assert self.rows[run_id].running
                    assert run_id not in self.told, "the first stop action wins"
                    self.told[run_id] = action
                case EndUnexecuted(run_id, action):
                    assert not self.rows[run_id].running
                    assert self.rows[run_id].attempt > 0
                    self.in_line.discard(run_id)
                    self.over(run_id, "deleted" if action == "rollback" else "interrupted")
                    self.perform(self.lane.ended(run_id))

    def over(self, run_id: str, how: str) -> None:
        row = self.rows[run_id]
        assert row.end is None, "ended twice"
        row.end, row.running = how, False

    def life_of(self, run_id: str) -> Life:
        ticket = self.lane.find(run_id)
        assert ticket is not None
        return ticket.life

    def alive(self) -> list[Row]:
        return [row for row in self.rows.values() if row.end is None]

    def executed(self) -> Row | None:
        return next((row for row in self.rows.values() if row.running), None)

    # --- clients -----------------------------------------------------------------------------

    @rule(strategy=strategies, delayed=st.booleans(), promptly=st.booleans())
    def create(self, strategy: MultitaskStrategy, delayed: bool, promptly: bool) -> None:
        """``promptly``: the database and the pool answer before anything else happens."""
        run_id = f"r{len(self.rows)}"
        taken = bool(self.alive()) or self.exclusive_held
        try:
            effects = self.lane.admit(run_id, strategy, delayed=delayed)
        except NotFound:
            assert self.closing
            return
        except Conflict:
            assert strategy == "reject"
            assert taken
            return
        assert not (strategy == "reject" and taken)
        assert not self.closing
        self.rows[run_id] = Row(run_id, strategy, delayed, life=self.life_of(run_id))
        self.storing.append(run_id)
        self.perform(effects)
        while promptly and self.storing:
            self.admission_is_stored()
        if promptly and self.in_line:
            self.a_place_is_found()

    @precondition(lambda self: self.storing)
    @rule()
    def admission_is_stored(self) -> None:
        """In the order of admission, as the journal does it."""
        run_id = self.storing.pop(0)
        row = self.rows[run_id]
        row.stored = True
        self.perform(self.lane.admitted(run_id), by=run_id)
        if row.strategy in ("interrupt", "rollback") and row.end is None:
            older = [r for r in self.alive() if number(r.run_id) < number(run_id)]
            assert len(older) <= 1, "only what is being stopped is left before it"
            assert all(r.run_id in self.told for r in older)

    @precondition(lambda self: self.storing)
    @rule()
    def admission_fails(self) -> None:
        run_id = self.storing.pop(0)
        row = self.rows[run_id]
        if row.end is None:
            self.in_line.discard(run_id)
            others = [(r.run_id, r.end) for r in self.rows.values() if r is not row]
            row.end, row.running = "not admitted", False
            self.told.pop(run_id, None)
            self.perform(self.lane.ended(run_id))
            assert others == [(r.run_id, r.end) for r in self.rows.values() if r is not row]

    @precondition(lambda self: self.alive())
    @rule(pick=picks, action=actions)
    def cancel(self, pick: int, action: CancelAction) -> None:
        rows = self.alive()
        self.cancelled = rows[pick % len(rows)].run_id
        self.perform(self.lane.cancel(self.cancelled, action), by="r0")
        self.cancelled = ""

    @rule(pick=picks, action=actions)
    def cancel_what_is_over(self, pick: int, action: CancelAction) -> None:
        rows = [row for row in self.rows.values() if row.end is not None]
        if rows:
            assert self.lane.cancel(rows[pick % len(rows)].run_id, action) == []

    @rule()
    def begin_exclusive(self) -> None:
        try:
            self.lane.begin_exclusive("op")
        except Conflict:
            assert self.alive() or self.exclusive_held
        except NotFound:
            assert self.closing
        else:
            assert not self.alive()
            self.exclusive_held = True

    @precondition(lambda self: self.exclusive_held)
    @rule()
    def end_exclusive(self) -> None:
        self.exclusive_held = False
        self.perform(self.lane.end_exclusive("op"))

    @precondition(lambda self: not self.closing and len(self.rows) % 4 == 3)
    @rule()
    def close(self) -> None:
        self.closing = True
        self.perform(self.lane.close())
        assert len(self.alive()) <= 1

    @precondition(lambda self: self.closing and self.lane.is_free)
    @rule()
    def thread_is_deleted(self) -> None:
        assert not self.alive()
        self.closing = False
        self.lane.reopen()

    # --- actors and timers -------------------------------------------------------------------

    @precondition(lambda self: self.in_line)
    @rule()
    def a_place_is_found(self) -> None:
        (run_id,) = self.in_line
        self.in_line.clear()
        assert self.lane.is_waiting(run_id)
        row = self.rows[run_id]
        row.attempt += 1
        row.actor = f"{run_id}-{row.attempt}"
        assert row.life.on(Event.GRANTED, actor=row.actor) == (Do.START,)
        row.running = True
        if row.attempt == 1:
            self.begun.append(run_id)

    @precondition(lambda self: self.executed())
    @rule()
    def the_start_is_stored(self) -> None:
        row = self.executed()
        assert row is not None
        ordered_before = row.life.stored == row.attempt and row.life.state is State.RUNNING
        effects = row.life.on(Event.STORED, attempt=row.attempt, actor=row.actor)
        assert effects == (() if ordered_before else (Do.ORDER,))

    @precondition(lambda self: self.executed())
    @rule()
    def the_run_ends(self) -> None:
        row = self.executed()
        assert row is not None
        assert row.life.on(Event.REPORTED, attempt=row.attempt, actor=row.actor) == (Do.END,)
        action = self.told.pop(row.run_id, None)
        self.over(row.run_id, "deleted" if action == "rollback" else "ended")
        self.perform(self.lane.ended(row.run_id))

    @precondition(lambda self: self.executed())
    @rule(how=st.sampled_from([Event.LOST, Event.HANDED_BACK]), cancel=st.none() | actions)
    def its_actor_goes(self, how: Event, cancel: CancelAction | None) -> None:
        """Perhaps it is cancelled before it is stored that the attempt is over."""
        row = self.executed()
        assert row is not None
        assert row.life.on(how, actor=row.actor) == (Do.REQUEUE,)
        assert STATUS[row.life.state] is RunStatus.PENDING
        row.running = False
        if cancel is not None and row.run_id not in self.told:
            assert self.lane.cancel(row.run_id, cancel) == [Cancel(row.run_id, cancel)]
            self.told[row.run_id] = cancel
        if row.run_id in self.told:
            assert row.life.cancel == self.told.pop(row.run_id)
            assert row.life.on(Event.GIVE_UP) == (Do.END,)
            self.over(row.run_id, "interrupted")
            self.perform(self.lane.ended(row.run_id))
        else:
            assert row.life.on(Event.REQUEUED, attempt=row.attempt) == (Do.CLAIM_AGAIN,)
            self.in_line.add(row.run_id)

    @precondition(lambda self: self.executed())
    @rule()
    def the_attempt_is_out_of_time(self) -> None:
        row = self.executed()
        assert row is not None
        timer = Event.GRACE_OVER if row.run_id in self.told else Event.OVERDUE
        effects = row.life.on(timer, attempt=row.attempt, actor=row.actor)
        assert effects == (() if row.life.state is State.ORDERED else (Do.KILL,))

    @precondition(lambda self: self.rows)
    @rule(pick=picks, event=st.sampled_from(Event), stranger=st.booleans())
    def something_of_the_past_is_heard(self, pick: int, event: Event, stranger: bool) -> None:
        """A late report, notice or timer of an attempt that is not current changes nothing."""
        rows = list(self.rows.values())
        row = rows[pick % len(rows)]
        before = repr(row.life)
        if stranger and event is not Event.GRANTED:
            assert row.life.on(event, actor="somebody else") is None
        elif row.attempt:
            assert row.life.on(event, attempt=row.attempt - 1) is None
        assert repr(row.life) == before

    @precondition(lambda self: any(row.end for row in self.rows.values()))
    @rule(pick=picks, event=st.sampled_from(Event))
    def something_happens_to_a_run_that_is_over(self, pick: int, event: Event) -> None:
        rows = [row for row in self.rows.values() if row.end not in (None, "not admitted")]
        if rows:
            row = rows[pick % len(rows)]
            assert row.life.on(event, attempt=row.attempt) == ()
            assert row.life.state is State.ENDING

    @rule(pick=picks)
    def a_delay_is_over(self, pick: int) -> None:
        rows = [row for row in self.rows.values() if row.delayed]
        if rows:
            row = rows[pick % len(rows)]
            effects = self.lane.due(row.run_id)
            assert row.end is None or effects == []
            row.delayed = False
            self.perform(effects)

    # --- the registry ------------------------------------------------------------------------

    @precondition(lambda self: self.rows)
    @rule()
    def the_registry_restarts(self) -> None:
        """What was not stored never was; what was told to stop was told by the old registry."""
        for run_id in self.storing:
            if self.rows[run_id].end is None:
                self.rows[run_id].end = "not admitted"
                self.rows[run_id].running = False
        self.storing.clear()
        self.in_line.clear()
        self.told.clear()
        self.exclusive_held = self.closing = False
        self.lane = Lane("t")
        effects: list[Effect] = []
        for row in self.alive():
            if row.running:
                state = State.RUNNING
            elif row.attempt:
                state = State.WAITING
            else:
                state = State.DELAYED if row.delayed else State.QUEUED
            row.life = Life(
                state=state,
                attempt=row.attempt,
                actor=row.actor if row.running else None,
                stored=row.attempt,
            )
            effects += self.lane.restore(row.run_id, row.life, row.strategy)
        self.perform(effects)
        for effect in self.lane.resume():
            if effect.run_id not in self.in_line:
                self.perform([effect])

    # --- what must hold ----------------------------------------------------------------------

    @invariant()
    def no_run_is_lost_or_doubled(self) -> None:
        in_lane = [ticket.run_id for ticket in self.lane]
        assert len(in_lane) == len(set(in_lane))
        assert set(in_lane) == {row.run_id for row in self.alive()}

    @invariant()
    def at_most_one_run_executes_and_it_is_the_active_one(self) -> None:
        executed = [row.run_id for row in self.rows.values() if row.running]
        assert len(executed) <= 1
        if executed:
            assert self.lane.active is not None
            assert self.lane.active.run_id == executed[0]
            assert self.lane.active.state in (State.ORDERED, State.RUNNING, State.CANCELLING)

    @invariant()
    def never_active_and_exclusive_at_once(self) -> None:
        assert not (self.lane.active is not None and self.lane.exclusive is not None)
        assert (self.lane.exclusive is not None) == self.exclusive_held

    @invariant()
    def a_free_thread_has_no_queue(self) -> None:
        assert not (self.lane.is_free and self.lane.queue)

    @invariant()
    def the_states_say_what_is(self) -> None:
        for ticket in self.lane:
            row = self.rows[ticket.run_id]
            assert ticket.life is row.life
            assert (ticket.state is State.DELAYED) == (
                row.delayed and ticket is not self.lane.active
            )
            assert (ticket.state is State.CANCELLING) == (ticket.run_id in self.told)
            assert (ticket.state is State.WAITING) == (ticket.run_id in self.in_line)
            assert ticket.life.attempt == row.attempt
            assert (STATUS[ticket.state] is RunStatus.RUNNING) == row.running

    @invariant()
    def the_queue_is_first_come_first_served(self) -> None:
        prompt = [t.number for t in self.lane.queue if t.run_id not in self.ever_delayed()]
        assert prompt == sorted(prompt)

    def ever_delayed(self) -> set[str]:
        self._ever = getattr(self, "_ever", set()) | {
            row.run_id for row in self.rows.values() if row.delayed
        }
        return self._ever

    def teardown(self) -> None:
        """Everything comes to an end, and then nothing is left."""
        if not hasattr(self, "lane"):
            return
        if self.exclusive_held:
            self.end_exclusive()
        while self.storing:
            self.admission_is_stored()
        for row in self.rows.values():
            if row.delayed:
                row.delayed = False
                self.perform(self.lane.due(row.run_id))
        for _ in range(2 * len(self.rows)):
            if self.in_line:
                self.a_place_is_found()
            elif self.executed():
                self.the_run_ends()
        if self.closing:
            self.thread_is_deleted()
        assert not self.alive(), "a run never came to its turn"
        assert self.lane.is_empty
        assert not self.in_line
        assert not self.told


TestDoubleTexting = DoubleTexting.TestCase
TestDoubleTexting.settings = settings(max_examples=250, stateful_step_count=50)
