"""Random double texting on one thread against a simple model of what must hold.

The rules are what clients, actors, timers and the database may do, in any order; the effects of a
`Lane` are performed into a model world (which runs exist, who executes), and a registry restart
rebuilds the lane from the model's database alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from greenroom.core.admission import Abandon, Drop, Effect, Lane, Place, Stage, Stop
from greenroom.core.errors import Conflict, NotFound
from greenroom.core.runs import CancelAction, MultitaskStrategy

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
            if isinstance(effect, Drop | Stop | Abandon) and by is not None:
                displaces = number(effect.run_id) < number(by)
                assert displaces or effect.run_id == self.cancelled, "nobody asked for this"
            match effect:
                case Place(run_id):
                    assert run_id not in self.in_line, "placed twice"
                    assert not any(row.running for row in self.rows.values())
                    self.in_line.add(run_id)
                case Drop(run_id, delete):
                    assert self.rows[run_id].attempt == 0, "a run that has run is settled"
                    self.in_line.discard(run_id)
                    self.over(run_id, "deleted" if delete else "interrupted")
                case Stop(run_id, action):
                    assert self.rows[run_id].running
                    assert run_id not in self.told, "the first stop action wins"
                    self.told[run_id] = action
                case Abandon(run_id, action):
                    assert not self.rows[run_id].running
                    assert self.rows[run_id].attempt > 0
                    self.in_line.discard(run_id)
                    self.over(run_id, "deleted" if action == "rollback" else "interrupted")
                    self.perform(self.lane.ended(run_id))

    def over(self, run_id: str, how: str) -> None:
        row = self.rows[run_id]
        assert row.end is None, "ended twice"
        row.end, row.running = how, False

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
        self.rows[run_id] = Row(run_id, strategy, delayed)
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
        self.perform(self.lane.stop(self.cancelled, action), by="r0")
        self.cancelled = ""

    @rule(pick=picks, action=actions)
    def cancel_what_is_over(self, pick: int, action: CancelAction) -> None:
        rows = [row for row in self.rows.values() if row.end is not None]
        if rows:
            assert self.lane.stop(rows[pick % len(rows)].run_id, action) == []

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
        self.lane.placed(run_id)
        row.running = True
        row.attempt += 1
        if row.attempt == 1:
            self.begun.append(run_id)

    @precondition(lambda self: self.executed())
    @rule()
    def the_run_ends(self) -> None:
        row = self.executed()
        assert row is not None
        action = self.told.pop(row.run_id, None)
        self.over(row.run_id, "deleted" if action == "rollback" else "ended")
        self.perform(self.lane.ended(row.run_id))

    @precondition(lambda self: self.executed())
    @rule()
    def its_actor_dies(self) -> None:
        row = self.executed()
        assert row is not None
        row.running = False
        if row.run_id in self.told:
            self.told.pop(row.run_id)
            self.over(row.run_id, "interrupted")
            self.perform(self.lane.ended(row.run_id))
        else:
            self.lane.requeued(row.run_id)
            self.in_line.add(row.run_id)

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
                stage = Stage.RUNNING
            elif row.attempt:
                stage = Stage.WAITING
            else:
                stage = Stage.DELAYED if row.delayed else Stage.QUEUED
            effects += self.lane.restore(row.run_id, stage, row.strategy, has_run=row.attempt > 0)
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
            assert self.lane.active.stage in (Stage.RUNNING, Stage.STOPPING)

    @invariant()
    def never_active_and_exclusive_at_once(self) -> None:
        assert not (self.lane.active is not None and self.lane.exclusive is not None)
        assert (self.lane.exclusive is not None) == self.exclusive_held

    @invariant()
    def a_free_thread_has_no_queue(self) -> None:
        assert not (self.lane.is_free and self.lane.queue)

    @invariant()
    def the_stages_say_what_is(self) -> None:
        for ticket in self.lane:
            row = self.rows[ticket.run_id]
            assert (ticket.stage is Stage.DELAYED) == (
                row.delayed and ticket is not self.lane.active
            )
            assert (ticket.stage is Stage.STOPPING) == (ticket.run_id in self.told)
            assert (ticket.stage is Stage.WAITING) == (ticket.run_id in self.in_line)
            assert ticket.has_run == (row.attempt > 0)

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
TestDoubleTexting.settings = settings(max_examples=250, stateful_step_count=50, deadline=None)
