"""ActorPool: who gets a slot, how many actors there are, and what a death takes along."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors.common.placement import PoolSpec
from actors.registry.members import Members, MemberState
from actors.registry.pool import START_BACKOFF_S, ActorPool, Renewal

SPEC = PoolSpec(graphs=("g",), runs_per_actor=1, warm=1, max_actors=3)


def pool_of(*ready: str, **changes: int) -> ActorPool:
    pool = ActorPool(dataclasses.replace(SPEC, **changes))  # type: ignore[arg-type]
    for name in ready:
        pool.starting(name)
        pool.ready(name, now_s=0.0)
    return pool


def test_runs_get_slots_in_the_order_in_which_they_came() -> None:
    pool = pool_of("x")
    assert pool.claim("a") == "x"
    assert [pool.claim(run_id) for run_id in "bcd"] == [None] * 3
    assert pool.release("x", "a", now_s=1.0) == [("b", "x")]
    assert pool.release("x", "b", now_s=1.0) == [("c", "x")]


def test_a_slot_is_handed_on_before_its_run_has_left_if_somebody_waits() -> None:
    pool = pool_of("x")
    pool.claim("a")
    assert pool.hand_on("x", "a", now_s=1.0) == []
    assert pool.members["x"].runs == {"a"}
    pool.claim("b")
    assert pool.hand_on("x", "a", now_s=1.0) == [("b", "x")]
    assert pool.members["x"].runs == {"b"}
    assert pool.release("x", "a", now_s=2.0) == []
    assert pool.members["x"].served == 1


def test_an_actor_that_is_about_to_go_hands_no_slot_on() -> None:
    """It would be ended while its run still has something to say."""
    retiring, recycled = pool_of("x"), pool_of("x", max_runs=1)
    for pool in (retiring, recycled):
        pool.claim("a")
        pool.claim("b")
    retiring.retire("x")
    for pool in (retiring, recycled):
        assert pool.hand_on("x", "a", now_s=1.0) == []
        assert pool.members["x"].runs == {"a"}


def test_a_run_that_lost_its_actor_goes_to_the_head_of_the_line() -> None:
    pool = pool_of("x")
    pool.claim("a")
    pool.claim("b")
    assert pool.claim_again("lost") is None
    assert pool.release("x", "a", now_s=1.0) == [("lost", "x")]


def test_a_run_that_lost_its_actor_takes_a_free_slot_at_once() -> None:
    assert pool_of("x").claim_again("lost") == "x"


def test_a_run_that_leaves_the_line_is_passed_over() -> None:
    pool = pool_of("x")
    for run_id in "abc":
        pool.claim(run_id)
    pool.leave("b")
    pool.leave("nobody")
    assert pool.release("x", "a", now_s=1.0) == [("c", "x")]


def test_an_actor_that_gets_ready_serves_who_waits() -> None:
    pool = pool_of()
    pool.claim("a")
    pool.starting("x")
    assert pool.ready("x", now_s=0.0) == [("a", "x")]
    assert pool.ready("x", now_s=0.0) == []


def test_dense_actors_are_filled_before_others_so_that_those_can_go() -> None:
    pool = pool_of("x", "y", runs_per_actor=3)
    names = {pool.claim(run_id) for run_id in "abc"}
    assert len(names) == 1
    assert pool.claim("d") not in names


@pytest.mark.parametrize(
    ("waiting", "warm", "slots", "wanted"),
    [(0, 1, 1, 1), (0, 0, 1, 0), (2, 1, 1, 3), (9, 1, 1, 3), (5, 0, 4, 2), (4, 1, 4, 2)],
)
def test_an_empty_pool_wants_actors_for_who_waits_and_its_warm_ones(
    waiting: int, warm: int, slots: int, wanted: int
) -> None:
    pool = pool_of(warm=warm, runs_per_actor=slots)
    for number in range(waiting):
        pool.claim(str(number))
    assert pool.wanted(now_s=0.0) == wanted


def test_actors_that_start_or_are_free_count_towards_what_is_wanted() -> None:
    pool = pool_of("x", warm=2)
    assert pool.wanted(now_s=0.0) == 1
    pool.starting("y")
    assert pool.wanted(now_s=0.0) == 0
    pool.claim("a")
    assert pool.wanted(now_s=0.0) == 1


def test_idle_actors_beyond_the_warm_ones_go_the_longest_idle_first() -> None:
    pool = pool_of("x", "y", "z")
    pool.claim("a")
    pool.release("x", "a", now_s=50.0)
    assert pool.surplus(now_s=59.0, idle_s=60.0) == []
    assert pool.surplus(now_s=60.0, idle_s=60.0) == ["y", "z"]


def test_an_actor_that_is_busy_is_never_surplus() -> None:
    pool = pool_of("x", "y", warm=0)
    pool.claim("a")
    pool.retire("x")
    assert pool.surplus(now_s=100.0, idle_s=1.0) == ["y"]
    pool.release("x", "a", now_s=100.0)
    assert pool.surplus(now_s=100.0, idle_s=1000.0) == ["x"]


def test_an_actor_is_replaced_after_as_many_runs_as_it_may_execute() -> None:
    pool = pool_of("x", max_runs=2, runs_per_actor=2, max_actors=1, warm=0)
    assert pool.claim("a") == "x"
    pool.release("x", "a", now_s=0.0)
    assert pool.claim("b") == "x"
    # It has one run left in it, and that is taken.
    assert pool.claim("c") is None
    assert pool.release("x", "b", now_s=0.0) == []
    assert pool.members["x"].state is MemberState.RETIRING
    assert pool.wanted(now_s=0.0) == 0
    assert pool.surplus(now_s=0.0, idle_s=60.0) == ["x"]
    pool.stopped("x")
    assert pool.wanted(now_s=0.0) == 1


def test_a_death_gives_back_the_runs_and_frees_the_room() -> None:
    pool = pool_of("x", runs_per_actor=2, max_actors=1, warm=0)
    pool.claim("a")
    pool.claim("b")
    assert pool.died("x", now_s=0.0) == {"a", "b"}
    assert pool.died("x", now_s=0.0) == set()
    assert pool.release("x", "a", now_s=0.0) == []
    pool.claim_again("a")
    assert pool.wanted(now_s=0.0) == 1


def test_starts_that_fail_are_tried_again_after_growing_pauses() -> None:
    pool, now_s, pauses = pool_of(), 100.0, []
    for number in range(len(START_BACKOFF_S) + 1):
        assert pool.wanted(now_s=now_s) == 1
        pool.starting(f"x{number}")
        pool.died(f"x{number}", now_s=now_s)
        assert pool.wanted(now_s=now_s) == 0
        pause_s = pool.retry_after_s(now_s=now_s)
        assert pause_s is not None
        pauses.append(round(pause_s, 3))
        now_s += pause_s
    assert pauses == [*START_BACKOFF_S[1:], START_BACKOFF_S[-1], START_BACKOFF_S[-1]]
    assert pool.retry_after_s(now_s=now_s) is None
    pool.starting("y")
    pool.ready("y", now_s=now_s)
    assert pool.failed_starts == 0


def test_a_death_at_work_is_no_failed_start() -> None:
    pool = pool_of("x")
    pool.claim("a")
    pool.died("x", now_s=0.0)
    assert (pool.failed_starts, pool.wanted(now_s=0.0)) == (0, 1)


def test_an_adopted_actor_keeps_what_it_executes() -> None:
    pool = pool_of(runs_per_actor=2)
    pool.adopt("x", {"a": 1}, now_s=0.0)
    assert pool.claim("b") == "x"
    assert pool.claim("c") is None
    assert pool.release("x", "a", now_s=0.0) == [("c", "x")]


class Places(RuleBasedStateMachine):
    """Random claims, ends, births and deaths against who must be where."""

    @initialize(
        slots=st.integers(1, 3),
        warm=st.integers(0, 2),
        max_runs=st.integers(0, 3),
        overflow=st.integers(0, 2),
    )
    def begin(self, slots: int, warm: int, max_runs: int, overflow: int) -> None:
        self.pool = pool_of(
            runs_per_actor=slots, warm=warm, max_runs=max_runs, max_actors=4, overflow=overflow
        )
        self.again: set[str] = set()
        self.at: dict[str, str] = {}
        self.line: list[str] = []
        self.names = 0
        self.runs = 0
        self.now_s = 0.0

    def granted(self, grants: list[tuple[str, str]]) -> None:
        for run_id, name in grants:
            assert self.line.pop(0) == run_id, "first come, first served"
            self.at[run_id] = name

    def took(self, run_id: str, name: str | None, *, first: bool = False) -> None:
        if name is not None:
            self.at[run_id] = name
        elif first:
            self.line.insert(0, run_id)
        else:
            self.line.append(run_id)

    @rule()
    def claim(self) -> None:
        self.runs += 1
        run_id = f"r{self.runs}"
        self.took(run_id, self.pool.claim(run_id))

    @precondition(lambda self: self.at)
    @rule(pick=st.integers(0, 99))
    def run_ends(self, pick: int) -> None:
        run_id = sorted(self.at)[pick % len(self.at)]
        self.granted(self.pool.release(self.at.pop(run_id), run_id, now_s=self.now_s))

    @precondition(lambda self: self.line)
    @rule(pick=st.integers(0, 99))
    def run_leaves(self, pick: int) -> None:
        self.pool.leave(self.line.pop(pick % len(self.line)))

    @rule()
    def grow(self) -> None:
        for _ in range(self.pool.wanted(now_s=self.now_s)):
            self.names += 1
            self.pool.starting(f"x{self.names}")

    @rule(pick=st.integers(0, 99), succeeds=st.booleans())
    def start_is_over(self, pick: int, succeeds: bool) -> None:
        names = [m.name for m in self.pool.members.values() if m.state is MemberState.STARTING]
        if names:
            name = names[pick % len(names)]
            if succeeds:
                self.granted(self.pool.ready(name, now_s=self.now_s))
            else:
                assert self.pool.died(name, now_s=self.now_s) == set()

    @rule(pick=st.integers(0, 99))
    def actor_dies(self, pick: int) -> None:
        names = [m.name for m in self.pool.members.values() if m.state is not MemberState.STARTING]
        if not names:
            return
        name = names[pick % len(names)]
        lost = self.pool.died(name, now_s=self.now_s)
        assert lost == {run_id for run_id, at in self.at.items() if at == name}
        for run_id in sorted(lost):
            del self.at[run_id]
            self.again.add(run_id)
            self.took(run_id, self.pool.claim_again(run_id), first=True)

    @rule(pick=st.integers(0, 99))
    def retire(self, pick: int) -> None:
        names = [m.name for m in self.pool.members.values() if m.state is MemberState.READY]
        if names:
            self.pool.retire(names[pick % len(names)])

    @rule(idle_s=st.sampled_from([0.0, 5.0]))
    def shrink(self, idle_s: float) -> None:
        for name in self.pool.surplus(now_s=self.now_s, idle_s=idle_s):
            assert name not in self.at.values(), "stopped at work"
            self.pool.stopped(name)

    @rule()
    def time_passes(self) -> None:
        self.now_s += 4.0

    @invariant()
    def every_run_is_in_one_slot_or_in_line(self) -> None:
        placed = [(run_id, m.name) for m in self.pool.members.values() for run_id in m.runs]
        assert sorted(placed) == sorted(self.at.items())
        assert list(self.pool.waiting) == self.line

    @invariant()
    def nobody_waits_while_a_slot_is_free_or_an_actor_takes_more(self) -> None:
        if not self.line:
            return
        assert self.pool.free_slots == 0
        spec, members = self.pool.spec, self.pool.members
        if spec.overflow and len(members) < spec.max_actors and self.line[0] not in self.again:
            for member in members.values():
                is_full = len(member.runs) == spec.runs_per_actor + spec.overflow
                is_at_its_end = bool(spec.max_runs) and (
                    member.served + len(member.runs) >= spec.max_runs
                )
                may_not = member.state is not MemberState.READY or bool(member.runs & self.again)
                assert is_full or is_at_its_end or may_not

    @invariant()
    def no_actor_has_more_than_it_may(self) -> None:
        spec = self.pool.spec
        assert len(self.pool.members) <= spec.max_actors
        for member in self.pool.members.values():
            more = 0 if member.runs & self.again else spec.overflow
            assert len(member.runs) <= spec.runs_per_actor + more
            if spec.max_runs:
                assert member.served + len(member.runs) <= spec.max_runs

    def teardown(self) -> None:
        """Whoever still waits comes to a slot once actors start and runs end."""
        for _ in range(4 * self.runs + 8 if hasattr(self, "pool") else 0):
            self.now_s += 60.0
            for run_id in list(self.at):
                self.granted(self.pool.release(self.at.pop(run_id), run_id, now_s=self.now_s))
            self.shrink(0.0)
            self.grow()
            for member in [*self.pool.members.values()]:
                if member.state is MemberState.STARTING:
                    self.granted(self.pool.ready(member.name, now_s=self.now_s))
        if hasattr(self, "pool"):
            assert not self.line
            assert not self.at


TestPlaces = Places.TestCase
TestPlaces.settings = settings(max_examples=100, stateful_step_count=40)


def test_a_burst_of_short_runs_starts_nothing_and_one_long_wait_does() -> None:
    """Many wait, all the time, but each only for a moment; then one does for longer."""
    pool = ActorPool(dataclasses.replace(SPEC, warm=0, max_actors=4), patience_s=1.0)
    pool.starting("a")
    pool.ready("a", now_s=0.0)
    assert pool.claim("run 0") == "a"
    pool.claim("run 1")
    for n in range(20):
        pool.claim(f"run {n + 2}")
        now_s = 0.4 * n
        assert pool.wanted(now_s=now_s) == 0
        assert pool.release("a", f"run {n}", now_s=now_s) == [(f"run {n + 1}", "a")]
    # From here on nobody gets a slot.
    assert pool.wanted(now_s=8.0) == 0
    wait_s = pool.retry_after_s(now_s=8.0)
    assert wait_s is not None
    assert 0 < wait_s <= 1
    assert pool.wanted(now_s=8.0 + wait_s) == len(pool.waiting)


def test_idle_actors_are_missed_only_after_a_while() -> None:
    pool = ActorPool(dataclasses.replace(SPEC, max_actors=4), patience_s=1.0)
    pool.starting("a")
    pool.ready("a", now_s=0.0)
    pool.claim("run")
    assert pool.wanted(now_s=0.0) == 0
    assert pool.wanted(now_s=1.0) == 1
    pool.release("a", "run", now_s=1.1)
    assert pool.wanted(now_s=1.2) == 0


def test_a_pool_that_is_warm_only_while_it_is_used_starts_and_keeps_nothing_else() -> None:
    pool = ActorPool(PoolSpec(graphs=("g",), warm=1, max_actors=4), warm_for_s=60.0)
    assert pool.wanted(now_s=0.0) == 0
    assert pool.claim("a") is None
    assert pool.wanted(now_s=1.0) == 2
    for name in ("x", "y"):
        pool.starting(name)
        pool.ready(name, now_s=2.0)
    assert pool.wanted(now_s=50.0) == 0
    pool.release("x", "a", now_s=100.0)
    assert pool.wanted(now_s=100.0) == 0
    assert pool.surplus(now_s=120.0, idle_s=60.0) == ["y"]
    pool.stopped("y")
    assert pool.surplus(now_s=159.0, idle_s=60.0) == []
    assert pool.surplus(now_s=161.0, idle_s=60.0) == ["x"]
    pool.stopped("x")
    assert pool.wanted(now_s=162.0) == 0


def test_no_question_of_a_run_looks_at_each_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a cluster a pool has thousands, and a registry asks some of these for every run."""
    names = [f"x{number}" for number in range(4)]
    pool = pool_of(*names, max_actors=4)
    for number in range(5):
        pool.claim(str(number))
    monkeypatch.setattr(Members, "__iter__", None)
    monkeypatch.setattr(Members, "values", None)
    assert pool.hand_on("x0", "0", now_s=1.0) == [("4", "x0")]
    assert pool.release("x1", "1", now_s=1.0) == []
    assert pool.claim("new") == "x1"
    assert pool.release("x3", "3", now_s=2.0) == []
    assert pool.wanted(now_s=2.0) == 0
    assert pool.surplus(now_s=2.0, idle_s=60.0) == []
    assert (pool.starts, pool.has_ready) == (0, True)


# --- overflow ------------------------------------------------------------------------------------


def test_a_burst_shares_the_actor_with_the_fewest_runs_until_as_many_are_there_as_may_be() -> None:
    pool = pool_of("x", "y", overflow=2, max_actors=3)
    assert {pool.claim("a"), pool.claim("b")} == {"x", "y"}
    assert {pool.claim("c"), pool.claim("d")} == {"x", "y"}
    assert pool.overflowing == 2
    pool.starting("z")
    assert pool.claim("e") is not None
    assert pool.ready("z", now_s=0.0) == []
    assert pool.claim("f") == "z"
    # From here on no more can come: a run waits as it does without `overflow`.
    assert pool.claim("g") is None
    assert pool.release("z", "f", now_s=1.0) == [("g", "z")]


def test_runs_that_share_want_actors_as_runs_that_wait_do() -> None:
    patient = ActorPool(
        dataclasses.replace(SPEC, overflow=8, warm=0, max_actors=8), patience_s=1.0, eager_limit=1
    )
    patient.starting("x")
    patient.ready("x", now_s=0.0)
    for run_id in "abcd":
        assert patient.claim(run_id) == "x"
    assert patient.wanted(now_s=0.0) == 0
    assert patient.wanted(now_s=0.9) == 0
    # Short runs that share all the time do not keep the actors away: sharing is for a while.
    patient.release("x", "a", now_s=0.9)
    assert patient.claim("e") == "x"
    assert patient.wanted(now_s=1.0) == 3


def test_an_actor_that_came_for_a_run_that_stays_where_it_is_may_go_again() -> None:
    """Else it would be ended for being idle and started for being wanted, again and again."""
    pool = pool_of("x", overflow=8, warm=0, max_actors=3)
    for run_id in "ab":
        pool.claim(run_id)
    assert pool.wanted(now_s=0.0) == 1
    pool.starting("y")
    pool.ready("y", now_s=0.0)
    assert pool.overflowing == 1
    assert pool.surplus(now_s=60.0, idle_s=60.0) == ["y"]
    pool.stopped("y")
    assert pool.wanted(now_s=60.0) == 0


def test_a_run_that_lost_its_actor_shares_none() -> None:
    """A run that kills its process takes others along once."""
    pool = pool_of("x", "y", overflow=8, max_actors=9)
    assert pool.claim("bad") != pool.claim("good")
    bad = next(name for name, member in pool.members.items() if "bad" in member.runs)
    good = "y" if bad == "x" else "x"
    pool.died(bad, now_s=0.0)
    assert pool.claim_again("bad") is None
    assert pool.claim("new") is None, "it came later"
    pool.starting("z")
    assert pool.ready("z", now_s=0.0) == [("bad", "z"), ("new", good)]
    assert pool.claim("newest") == good
    assert pool.claim("taken up after a restart", apart=True) is None


def test_a_new_registry_knows_who_shares_no_actor() -> None:
    pool = pool_of(overflow=8, max_actors=9)
    pool.adopt("x", {"a": 2}, now_s=0.0)
    assert pool.claim("b") is None
    pool.adopt("y", {"c": 1}, now_s=0.0)
    assert pool.grants() == [("b", "y")]


def test_a_pool_whose_new_code_does_not_start_shares_no_actor() -> None:
    """No more actors would come."""
    pool = pool_of("old", overflow=8)
    pool.renew()
    pool.starting("broken")
    pool.died("broken", now_s=1.0)
    assert (pool.claim("a"), pool.claim("b")) == ("old", None)


# --- changed code ---------------------------------------------------------------------------------


def test_old_code_executes_runs_until_the_new_code_is_ready_and_leaves_after_them() -> None:
    pool = pool_of("old", "idle")
    pool.claim("under way")
    pool.renew()
    assert pool.wanted(now_s=1.0) == 1
    pool.starting("new")
    assert pool.wanted(now_s=1.0) == 0
    assert pool.claim("meanwhile") == "idle"
    pool.release("idle", "meanwhile", now_s=2.0)
    assert pool.ready("new", now_s=3.0) == []
    assert pool.claim("next") == "new"
    assert pool.surplus(now_s=3.0, idle_s=60.0) == ["idle"]
    pool.release("old", "under way", now_s=4.0)
    assert "old" in pool.surplus(now_s=4.0, idle_s=60.0)
    assert pool.renewal is Renewal.DONE


def test_new_code_gets_an_actor_beyond_the_limit() -> None:
    pool = pool_of("a", "b", max_actors=2)
    pool.claim("r"), pool.claim("s")
    pool.renew()
    assert pool.wanted(now_s=1.0) == 1


def test_new_code_that_does_not_start_leaves_everything_as_it_is() -> None:
    pool = pool_of("old")
    pool.renew()
    pool.starting("broken")
    pool.died("broken", now_s=1.0)
    assert (pool.renewal, pool.failed_starts) == (Renewal.FAILED, 0)
    assert pool.claim("a") == "old"
    assert pool.claim("b") is None
    # Another start would fail as well: the run waits for the old code.
    assert pool.wanted(now_s=100.0) == 0
    assert pool.release("old", "a", now_s=101.0) == [("b", "old")]
    pool.renew()
    assert pool.wanted(now_s=102.0) == 1
    pool.starting("mended")
    pool.ready("mended", now_s=103.0)
    assert pool.claim("c") == "mended"


def test_an_actor_that_began_before_a_change_is_one_of_the_old_code() -> None:
    pool = pool_of("old")
    pool.starting("late")
    pool.renew()
    assert pool.wanted(now_s=1.0) == 1
    pool.starting("new")
    pool.ready("late", now_s=1.0)
    assert pool.renewal is Renewal.UNDER_WAY
    pool.ready("new", now_s=2.0)
    assert pool.claim("a") == "new"
    assert {name for name, m in pool.members.items() if m.state is MemberState.RETIRING} == {
        "old",
        "late",
    }


def test_without_any_actor_of_the_old_code_a_failed_start_is_one() -> None:
    pool = pool_of("old")
    pool.renew()
    pool.starting("broken")
    pool.died("old", now_s=1.0)
    pool.died("broken", now_s=1.0)
    assert pool.failed_starts == 1
    assert pool.wanted(now_s=100.0) >= 1


def test_where_actors_hold_a_gpu_the_old_ones_leave_first() -> None:
    pool = pool_of("old", "busy", num_gpus=1)
    pool.claim("r")
    pool.renew()
    assert pool.claim("s") is None
    assert pool.surplus(now_s=1.0, idle_s=60.0) == ["busy"]
