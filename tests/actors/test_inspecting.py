"""Inspectors in memory: who is asked, who is replaced, and who is to blame for a death."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any, cast

import pytest

from actors.calls.answers import ActorGone
from actors.calls.directory import Handles
from actors.common.placement import PoolSpec
from actors.common.tasks import Tasks
from actors.inspector import asking
from actors.inspector.asking import Asker, Deadly, Duty, Replaced, settle
from actors.registry import inspecting
from actors.registry.inspecting import Inspectors
from greenroom.core.errors import DatabaseUnavailable, Fenced, NotFound, Unanswered, Unavailable
from greenroom.core.runs import Settled
from greenroom.graphs.store_section import EMBED
from tests.actors.doubles import BOUND_S, Method, until

SPEC = PoolSpec(graphs=("g", "innocent"), version="v")


class Process:
    """An inspector: a question "kill" ends it, an answer waits for what the stage says."""

    def __init__(self, name: str, stage: Stage) -> None:
        self.name = name
        self.stage = stage
        self.dead = asyncio.Event()
        self.stuck = asyncio.Event()
        self.leaving = False
        self.asked: list[Any] = []

    def __getattr__(self, method: str) -> Method:
        return Method(lambda *args: self._until_dead(getattr(self, f"_{method}")(*args)))

    async def _until_dead(self, work: Awaitable[Any]) -> Any:
        doing, dying = asyncio.ensure_future(work), asyncio.ensure_future(self.dead.wait())
        try:
            await asyncio.wait({doing, dying}, return_when=asyncio.FIRST_COMPLETED)
            if self.dead.is_set():
                raise ActorGone(self.name)
            return doing.result()
        finally:
            for each in (doing, dying):
                each.cancel()
            await asyncio.gather(doing, dying, return_exceptions=True)

    async def _adopt(self, epoch: int) -> Any:
        return self.stage.adopted

    async def _beat(self, epoch: int) -> None:
        if self.name in self.stage.silent:
            await asyncio.Event().wait()

    async def _alive(self) -> None:
        await self.stuck.wait()

    async def _leave(self) -> None:
        self.leaving = True

    async def _ask(self, question: Any) -> Any:
        if self.leaving:
            raise Replaced(self.name)
        self.asked.append(question)
        self.stage.asked.append((self.name, question))
        if question == "slow":
            await self.stage.gate.wait()
        if question == "kill":
            await self.stage.fuse.wait()
            self.stage.die(self.name)
            await asyncio.Event().wait()
        if isinstance(question, Exception):
            raise question
        return question

    async def _settle(self, graph_id: str, thread_id: str, held: Any) -> Any:
        step = self.stage.settling.pop(0) if self.stage.settling else SETTLED
        if step == "kill":
            self.stage.die(self.name)
            await asyncio.Event().wait()
        if isinstance(step, Exception):
            raise step
        return step


SETTLED = Settled(interrupts=b"{}", has_next=True)


class Stage:
    """Inspectors, and who asks them."""

    def __init__(self) -> None:
        self.living: dict[str, Process] = {}
        self.ever: list[str] = []
        self.killed: list[str] = []
        self.silent: set[str] = set()
        self.asked: list[tuple[str, Any]] = []
        self.settling: list[Any] = []
        self.problems: list[str] = []
        self.adopted: Any = (SPEC, 1, [])
        self.gate = asyncio.Event()
        self.fuse = asyncio.Event()
        self.fuse.set()
        self.tasks = Tasks()
        self.loop = asyncio.get_running_loop()
        self.inspectors = self.keeper()

    def keeper(self) -> Inspectors:
        handles = cast(Handles, self)
        return Inspectors(handles, self.tasks, spec=SPEC, make=self.make, inspect_s=1.0)

    def asker(self, duty: Duty = Duty.READS) -> Asker:
        keeper = self.inspectors
        handles = cast(Handles, self)
        return Asker(handles, duty, name=keeper.name, apart=keeper.ask_apart)

    async def make(self, name: str) -> str | None:
        await asyncio.sleep(0)
        if self.problems:
            return self.problems.pop(0)
        self.living[name] = Process(name, self)
        self.ever.append(name)
        return None

    def die(self, name: str) -> None:
        self.living.pop(name).dead.set()

    def started(self, kind: str) -> int:
        return sum(1 for name in self.ever if name.startswith(f"inspector-{kind}-"))

    # --- what `Handles` has --------------------------------------------------------------------

    async def find(self, name: str) -> Process:
        if name not in self.living:
            raise ActorGone(name)
        return self.living[name]

    def forget(self, name: str) -> None:
        pass

    def kill(self, name: str) -> None:
        """Called from a thread, as with Ray."""
        self.killed.append(name)
        process = self.living.pop(name, None)
        if process is not None:
            self.loop.call_soon_threadsafe(process.dead.set)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspecting, "RECONNECT_S", 0.001)
    monkeypatch.setattr(asking, "RECONNECT_S", 0.001)
    monkeypatch.setattr(inspecting, "PAUSE_S", 0.001)
    monkeypatch.setattr(inspecting, "FAREWELL_S", 0.0)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    stage.inspectors.keep()
    await until(lambda: len(stage.living) == 2)
    yield stage
    await stage.tasks.close()


async def bounded(work: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(work, BOUND_S)


async def test_one_that_dies_is_made_again_and_one_that_does_not_start_too(stage: Stage) -> None:
    first = await stage.inspectors.name(Duty.READS)
    stage.problems = ["no"] * 3
    stage.die(first)
    await until(lambda: not stage.inspectors.is_there)
    assert await bounded(stage.inspectors.name(Duty.READS)) in stage.living
    assert not stage.problems
    assert len(stage.living) == 2


async def test_one_that_is_stuck_answers_until_the_next_is_there_and_then_leaves(
    stage: Stage,
) -> None:
    asker = stage.asker()
    assert await asker.ask("g", "ask", 1) == 1
    old = stage.living[await stage.inspectors.name(Duty.READS)]
    slow = asyncio.create_task(asker.ask("innocent", "ask", "slow"))
    await until(lambda: "slow" in old.asked)
    starting = asyncio.Event()
    make = stage.make

    async def slowly(name: str) -> str | None:
        await starting.wait()
        return await make(name)

    stage.inspectors._make = slowly
    old.stuck.set()
    await until(lambda: not stage.inspectors.is_there)
    assert await bounded(asker.ask("g", "ask", 2)) == 2
    assert old.asked == [1, "slow", 2]
    stage.gate.set()
    assert await bounded(slow) == "slow"
    starting.set()
    await until(lambda: old.name in stage.killed)
    assert await bounded(asker.ask("g", "ask", 3)) == 3
    assert old.asked == [1, "slow", 2]
    assert stage.started("apart-reads") == 0


async def test_a_question_that_ends_every_process_ends_three_and_is_refused(stage: Stage) -> None:
    asker = stage.asker()
    with pytest.raises(Deadly, match="'g' cannot be asked"):
        await bounded(asker.ask("g", "ask", "kill"))
    assert len(stage.asked) == len({name for name, _ in stage.asked}) == 3
    assert await bounded(asker.ask("innocent", "ask", "fine")) == "fine"


async def test_an_embedding_that_ends_every_process_is_called_by_its_name(stage: Stage) -> None:
    said = "The embedding of the store cannot be asked: its code ends the process that calls it"
    with pytest.raises(Deadly, match=said):
        await bounded(stage.asker().ask(EMBED, "ask", "kill"))


async def test_a_graph_that_ended_a_process_is_asked_apart_until_it_answers(stage: Stage) -> None:
    asker = stage.asker()
    for _ in range(3):
        with pytest.raises(Unanswered):
            await bounded(asker.ask("g", "ask", "kill"))
    assert len(stage.asked) == 3 + 1 + 1
    together = await bounded(stage.inspectors.name(Duty.READS))
    assert await bounded(asker.ask("g", "ask", "well")) == "well"
    assert not stage.living[together].asked
    assert await bounded(asker.ask("g", "ask", "again")) == "again"
    assert stage.living[together].asked == ["again"]


async def test_questions_beside_a_culprit_are_answered_and_nobody_else_is_blamed(
    stage: Stage,
) -> None:
    """All are under way in a process that dies; then each is asked alone."""
    asker = stage.asker()
    stage.fuse.clear()
    questions = [asker.ask("innocent", "ask", "slow") for _ in range(5)]
    work = asyncio.gather(*questions, asker.ask("g", "ask", "kill"), return_exceptions=True)
    await until(lambda: len(stage.asked) == 6)
    stage.gate.set()
    stage.fuse.set()
    *innocent, culprit = await bounded(work)
    assert innocent == ["slow"] * 5
    assert isinstance(culprit, Deadly)
    together, *apart = stage.asked[:6], *stage.asked[6:]
    assert len({name for name, _ in together}) == 1
    assert [question for _, question in apart].count("kill") == 2
    assert apart[-1][1] == "kill", "it is asked again behind those that wait"


async def test_a_death_that_was_before_a_question_is_not_held_against_it(stage: Stage) -> None:
    asker = stage.asker()
    await asker.ask("g", "ask", 1)
    for _ in range(5):
        stage.die(await bounded(stage.inspectors.name(Duty.READS)))
        assert await bounded(asker.ask("g", "ask", 2)) == 2
    assert stage.started("apart-reads") == 0


async def test_what_the_inspector_says_is_passed_on(stage: Stage) -> None:
    for error in (NotFound("none"), Unanswered("late"), Unavailable("away"), ValueError("g's")):
        with pytest.raises(type(error), match=str(error)):
            await bounded(stage.asker().ask("g", "ask", error))
    assert len(stage.asked) == 4


async def test_one_that_does_not_say_that_it_is_there_is_killed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspecting, "SILENT_S", 0.01)
    silent = await stage.inspectors.name(Duty.READS)
    stage.silent = {silent}
    stage.inspectors.beat(1)
    await until(lambda: silent in stage.killed)
    assert stage.killed == [silent]
    await bounded(stage.inspectors.name(Duty.READS))


async def test_a_process_apart_goes_when_nobody_needs_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await stage.inspectors.ask_apart(Duty.READS, "g", "ask", (1,)) == 1
    stage.inspectors.beat(1)
    await asyncio.sleep(0)
    assert not stage.killed
    monkeypatch.setattr(inspecting, "APART_IDLE_S", 0.0)
    stage.inspectors.beat(1)
    await until(lambda: stage.killed)
    assert [name for name in stage.killed if "apart-reads" in name] == stage.killed
    assert len(stage.living) == 2


async def test_a_later_keeper_takes_over_who_is_there_and_ends_the_others(stage: Stage) -> None:
    await stage.inspectors.ask_apart(Duty.READS, "g", "ask", (1,))
    await stage.tasks.close()
    names = [*stage.living]
    later = stage.inspectors = stage.keeper()
    for name in names:
        await later.adopt(name, 2, 1.0)
    assert [name for name in names if "apart" in name] == stage.killed
    later.keep()
    assert {await later.name(duty) for duty in Duty} == set(stage.living)
    assert stage.started("reads") == stage.started("ends") == 1


@pytest.mark.parametrize("said", [(PoolSpec(graphs=("old",)), 1, []), ("only", "two")])
async def test_one_of_other_graphs_or_code_is_ended(stage: Stage, said: Any) -> None:
    await stage.tasks.close()
    stage.adopted = said
    later = stage.keeper()
    for name in [*stage.living]:
        await later.adopt(name, 2, 1.0)
    assert not stage.living


async def test_a_keeper_of_the_past_ends_nobody(stage: Stage) -> None:
    async def fenced(*_: Any) -> Any:
        raise Fenced("epoch 1 was superseded by 2")

    for process in stage.living.values():
        process._adopt = fenced  # type: ignore[method-assign]
        with pytest.raises(Fenced):
            await stage.keeper().adopt(process.name, 1, 1.0)
    assert not stage.killed


# --- settling -------------------------------------------------------------------------------------


async def test_settling_outlives_deaths_and_a_database_that_is_away(stage: Stage) -> None:
    stage.settling = [DatabaseUnavailable("away"), "kill", Unavailable("no route"), "kill"]
    assert await bounded(settle(stage.asker(Duty.ENDS), "g", "t", (1, 0))) == SETTLED
    assert stage.started("reads") == 1, "readers' inspector has nothing to do with it"


async def test_settling_what_ends_every_process_is_given_up(stage: Stage) -> None:
    stage.settling = ["kill"] * 3
    asker = stage.asker(Duty.ENDS)
    assert await bounded(settle(asker, "g", "t", (1, 0))) == Settled()
    assert await bounded(settle(asker, "innocent", "t", (1, 0))) == SETTLED


@pytest.mark.parametrize("error", [ValueError("the factory of g"), Unanswered("g hangs")])
async def test_what_a_graph_raises_or_does_not_answer_leaves_its_thread_as_it_is(
    stage: Stage, error: Exception
) -> None:
    stage.settling = [error]
    assert await bounded(settle(stage.asker(Duty.ENDS), "g", "t", (1, 0))) == Settled()


async def test_settling_without_anybody_to_do_it_is_given_up_in_the_end(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (asking, inspecting):
        monkeypatch.setattr(module, "ARRIVAL_WAIT_S", 0.02)
    asker = stage.asker(Duty.ENDS)
    stage.problems = ["no"] * 1_000_000
    stage.die(await stage.inspectors.name(Duty.ENDS))
    assert await bounded(settle(asker, "g", "t", (1, 0))) == Settled()


async def test_changed_code_is_asked_once_its_inspectors_are_there(stage: Stage) -> None:
    asker = stage.asker()
    assert await asker.ask("g", "ask", 1) == 1
    old = {duty: await stage.inspectors.name(duty) for duty in Duty}
    process = stage.living[old[Duty.READS]]
    await bounded(stage.inspectors.renew())
    assert await bounded(asker.ask("g", "ask", 2)) == 2
    assert process.asked == [1]
    await until(lambda: not set(old.values()) & set(stage.living))
    assert len(stage.living) == 2
    assert stage.started("apart-reads") == 0


async def test_changed_code_that_does_not_load_leaves_the_inspectors(stage: Stage) -> None:
    old = await stage.inspectors.name(Duty.READS)
    stage.problems = ["SyntaxError"]
    await bounded(stage.inspectors.renew())
    assert await stage.inspectors.name(Duty.READS) == old
    assert stage.killed == []
