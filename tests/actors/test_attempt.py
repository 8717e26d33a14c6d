"""The life of an attempt, with doubles for the registry, the database and the process."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from actors.run.attempt import EXIT_FENCED, Attempt
from actors.run.deps import Deps
from actors.run.node_threads import NodeThreads
from greenroom.core.errors import DatabaseUnavailable, Fenced, NotFound
from greenroom.core.events import Event, EventLog
from greenroom.core.inputs import TAKEN, HeardInput, Taking
from greenroom.core.pausing import Pause, Waiting
from greenroom.core.runs import Report, RunStatus
from greenroom.graphs.configuration import GraphSpec
from greenroom.graphs.loading import LoadedGraph
from greenroom.persistence.run_inputs import ForAttempt
from greenroom.persistence.saving import LARGE
from greenroom.wire.requests import LOG_MODES
from tests.actors.doubles import BOUND_S, until
from tests.graphs.probe_graphs import FakeStreamingModel
from tests.run_records import order_of


class State(TypedDict, total=False):
    x: int
    y: int


class Gone(BaseException):
    """The process has ended: nothing after it happens."""


class Saver(InMemorySaver):
    """A saver that says when it was waited for."""

    def __init__(self, actor: Actor) -> None:
        super().__init__()
        self._actor = actor

    async def aput(self, config: Any, *args: Any) -> Any:
        saved = await super().aput(config, *args)
        self._actor.note(config)
        return saved

    async def aput_writes(self, config: Any, *args: Any) -> None:
        await super().aput_writes(config, *args)
        self._actor.note(config)

    async def settled(self) -> None:
        await self._actor.does("settled")

    async def all_written(self) -> None:
        await self._actor.does("all written")

    async def put_values(self, thread_id: str, values: bytes) -> bool:
        if taken := await self._actor.does("put values", False):
            self._actor.values.append(values)
        return taken


class Actor:
    """The actor around an attempt; remembers, and does what a test has scripted.

    Attributes:
        reports: what the registry was told, in order.
        kept: events that are durable.
        values: what was stored of the thread.
        happened: everything of these in order, by name.
        scripts: per name, what the next calls do: raise an exception, wait for an event, or answer.
    """

    def __init__(self, node: Callable[[State], Awaitable[State]], **changes: Any) -> None:
        builder = StateGraph(State)
        builder.add_node("first", self._first)
        builder.add_node("node", node)
        builder.add_edge(START, "first")
        builder.add_edge("first", "node")
        self.graph = LoadedGraph(
            spec=GraphSpec(graph_id="g", target="here:graph"), graph=builder.compile()
        )
        self.saver = Saver(self)
        self.threads = NodeThreads()
        self.reports: list[Report] = []
        self.kept: list[Event] = []
        self.values: list[bytes] = []
        self.happened: list[str] = []
        self.scripts: dict[str, list[Any]] = {}
        self.ended: list[Attempt] = []
        self.gone: list[Attempt] = []
        self.left_with: list[int] = []
        self.said: list[HeardInput] = []
        self.takings: list[Taking] = []
        self.wanted: Pause | None = None
        self.waits: list[Waiting] = []
        self.changes = changes

    def say(self, attempt: Attempt, **content: Any) -> str:
        """Says something to a run; returns its id. The registry then tells the attempt."""
        heard = HeardInput(input_id=str(uuid.uuid4()), number=len(self.said) + 1, **content)
        self.said.append(heard)
        attempt.hear()
        return heard.input_id

    def note(self, config: Any) -> None:
        self.takings += config["configurable"].get(TAKEN) or []

    async def _inputs_for(self, run_id: str) -> ForAttempt:
        await self.does("inputs")
        done = {taking.input_id for taking in self.takings}
        waiting = [each for each in self.said if each.input_id not in done]
        taken = [each for each in self.takings if each.reason is None]
        return ForAttempt(waiting=waiting, taken=taken, pause=self.wanted)

    async def _note_input(self, owner: Any, taking: Taking) -> None:
        await self.does("note")
        self.takings.append(taking)

    async def _tell_waiting(self, waiting: Waiting) -> None:
        await self.does("waiting")
        self.waits.append(waiting)

    def pause(self, attempt: Attempt, wanted: Pause | None) -> None:
        """Wants something of a run; the registry then tells the attempt."""
        self.wanted = wanted
        attempt.hear()

    async def _first(self, state: State) -> State:
        return {"y": 1}

    async def does(self, name: str, answer: Any = None) -> Any:
        self.happened.append(name)
        script = self.scripts.get(name, [])
        if script:
            step = script.pop(0)
            if isinstance(step, asyncio.Event):
                await step.wait()
            elif isinstance(step, BaseException):
                raise step
            else:
                return step
        return answer

    async def at(self, place: str) -> None:
        await self.does(f"at {place}")

    async def _append(self, run_id: str, attempt: int, events: list[Event]) -> None:
        await self.does("append")
        self.kept.extend(events)

    async def _save_values(self, owner: Any, thread_id: str, values: bytes) -> None:
        await self.does("values")
        self.values.append(values)

    async def report(self, report: Report) -> bool:
        self.reports.append(report)
        return await self.does("report", True)

    def _left(self, attempt: Attempt, *, whole: bool) -> None:
        self.gone.append(attempt)
        attempt.log.close(whole=whole)

    def _finished(self, attempt: Attempt) -> None:
        self.happened.append("finished")
        self.ended.append(attempt)
        attempt.log.close()

    def _graph_of(self, graph_id: str) -> LoadedGraph:
        if graph_id != "g":
            raise NotFound("not here")
        return self.graph

    async def has(self, name: str, data: bytes, *, whole: bool) -> bool:
        return False

    async def newest(self, begin: str) -> list[tuple[str, bytes]]:
        return []

    def attempt(self, **changes: Any) -> Attempt:
        given: dict[str, Any] = {
            "run_id": str(uuid.uuid4()),
            "thread_id": "t",
            "assistant_id": str(uuid.uuid4()),
            "graph_id": "g",
            "attempt": 1,
            "kwargs": json.dumps({"input": {"x": 1}, "stream_mode": ["values"]}).encode(),
            "temporary": False,
            "resumable": False,
        }
        order = order_of(**(given | changes))
        return Attempt(order, EventLog(order.attempt, 1_000_000), self.deps())

    def deps(self) -> Deps:
        deps: dict[str, Any] = {
            "actor": "run-1",
            "isolated": False,
            "timeouts_s": {},
            "faults": self,
            "threads": self.threads,
            "graph_of": self._graph_of,
            "saver_of": lambda order, is_first: self.saver,
            "store": None,
            "earlier": lambda order: self,
            "append": self._append,
            "save_values": self._save_values,
            "inputs_for": self._inputs_for,
            "note_input": self._note_input,
            "tell_waiting": self._tell_waiting,
            "report": self.report,
            "finished": self._finished,
            "grown": lambda: None,
            "left": self._left,
            "leave_process": self._leave,
        }
        return Deps(**(deps | self.changes))

    def _leave(self, code: int) -> None:
        self.left_with.append(code)
        raise Gone

    async def run(self, attempt: Attempt) -> None:
        async with asyncio.timeout(BOUND_S):
            await attempt.run()


async def done(state: State) -> State:
    return {"x": state.get("x", 0) + 1}


class Gated:
    """A node that says that it has begun, and waits."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.cancels = 0

    async def __call__(self, state: State) -> State:
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancels += 1
            await asyncio.sleep(0)
            raise
        return {"x": 2}


def names(attempt: Attempt) -> list[str]:
    return [event.name for event in attempt.log.read(0).events]


# --- ends -----------------------------------------------------------------------------------------


async def turns() -> None:
    """Lets happen what has nothing to wait for any more."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_an_end_is_stored_then_reported_then_shown() -> None:
    actor = Actor(done)
    attempt = actor.attempt()
    await actor.run(attempt)
    assert [each for each in actor.happened if not each.startswith("at ")] == [
        "put values",
        "all written",
        "settled",
        "values",
        "report",
        "finished",
    ]
    (report,) = actor.reports
    assert (report.status, report.actor) == (RunStatus.SUCCESS, "run-1")
    assert json.loads(actor.values[0]) == {"x": 2, "y": 1}
    assert attempt.outcome is not None
    assert names(attempt)[0] == "metadata"


async def test_what_a_failed_execution_has_left_to_write_is_written_before_its_end() -> None:
    async def fails(state: State) -> State:
        raise ValueError("boom")

    actor = Actor(fails)
    writing = asyncio.Event()
    actor.scripts["settled"] = [writing]
    life = asyncio.create_task(actor.run(actor.attempt()))
    await until(lambda: "settled" in actor.happened)
    await turns()
    assert not actor.reports
    writing.set()
    await life
    assert actor.reports[0].status is RunStatus.ERROR


async def test_values_that_went_with_the_last_checkpoint_are_not_stored_again() -> None:
    actor = Actor(done)
    actor.scripts["put values"] = [True]
    await actor.run(actor.attempt())
    assert [json.loads(each) for each in actor.values] == [{"x": 2, "y": 1}]
    assert "values" not in actor.happened
    assert actor.reports[0].status is RunStatus.SUCCESS


@pytest.mark.parametrize("cancels", [False, True])
async def test_large_values_are_stored_beside_the_last_checkpoint(cancels: bool) -> None:
    async def node(state: State) -> Any:
        return {"x": "x" * (LARGE + 1)}

    actor = Actor(node)
    checkpoint, values = asyncio.Event(), asyncio.Event()
    actor.scripts |= {"all written": [checkpoint], "values": [values]}
    attempt = actor.attempt()
    life = asyncio.create_task(actor.run(attempt))
    await until(lambda: {"all written", "values"} <= {*actor.happened})
    if cancels:
        attempt.cancel(keep_values=True)
    checkpoint.set()
    await turns()
    assert not actor.reports  # the values are still on their way
    values.set()
    await life
    status = RunStatus.INTERRUPTED if cancels else RunStatus.SUCCESS
    assert actor.reports[0].status is status
    # After a cancel the state is read, and stored behind what was on its way.
    assert actor.happened.count("values") == 1 + cancels
    assert len({*actor.values}) == 1


async def test_large_values_that_could_not_be_stored_are_stored_at_the_end() -> None:
    async def node(state: State) -> Any:
        return {"x": "x" * (LARGE + 1)}

    actor = Actor(node)
    actor.scripts["values"] = [DatabaseUnavailable("the database is away")]
    await actor.run(actor.attempt())
    assert actor.happened.count("values") == 2
    assert actor.reports[0].status is RunStatus.SUCCESS


async def test_values_are_stored_anew_when_the_run_ends_otherwise_than_it_seemed() -> None:
    actor = Actor(done)
    actor.scripts["put values"] = [True]
    actor.scripts["all written"] = [RuntimeError("the last checkpoint is refused")]
    await actor.run(actor.attempt())
    assert actor.reports[0].status is RunStatus.ERROR
    assert actor.happened.count("values") == 1


async def test_the_log_closes_only_after_the_report_was_accepted() -> None:
    accepted = asyncio.Event()
    actor = Actor(done)
    actor.scripts["report"] = [accepted]

    async def answer(report: Report) -> bool:
        await actor.report(report)
        return True

    actor.changes["report"] = answer
    attempt = actor.attempt()
    life = asyncio.create_task(actor.run(attempt))
    await until(lambda: actor.reports)
    assert not attempt.log.closed
    assert attempt.outcome is None
    accepted.set()
    await life
    assert attempt.log.closed


@pytest.mark.parametrize("resumable", [False, True])
async def test_an_error_is_seen_when_it_is_committed_and_not_before(resumable: bool) -> None:
    async def fails(state: State) -> State:
        raise ValueError("boom")

    actor = Actor(fails)
    attempt = actor.attempt(resumable=resumable)
    seen: list[list[str]] = []

    async def answer(report: Report) -> bool:
        seen.append(names(attempt))
        return await actor.report(report)

    actor.changes["report"] = answer
    attempt = actor.attempt(resumable=resumable)
    await actor.run(attempt)
    assert "error" not in seen[0]
    assert names(attempt)[-1] == "error"
    if resumable:
        assert actor.kept[-1].name == "error"
    assert json.loads(actor.values[0]) == {"x": 1, "y": 1}


async def test_a_temporary_run_and_one_that_is_rolled_back_leave_no_values() -> None:
    actor = Actor(done)
    await actor.run(actor.attempt(temporary=True))
    gated = Gated()
    rolled_back = Actor(gated)
    attempt = rolled_back.attempt()
    life = asyncio.create_task(rolled_back.run(attempt))
    await gated.begun.wait()
    attempt.cancel(keep_values=False)
    await life
    for each in (actor, rolled_back):
        assert not each.values


async def test_a_database_that_is_away_is_waited_for() -> None:
    actor = Actor(done)
    actor.scripts["values"] = [DatabaseUnavailable("away")]
    actor.scripts["append"] = [DatabaseUnavailable("away")]
    attempt = actor.attempt(resumable=True)
    await actor.run(attempt)
    assert len(actor.values) == 1
    assert [event.name for event in actor.kept] == names(attempt)


async def test_a_run_that_is_out_of_time_says_so_with_its_state() -> None:
    actor = Actor(Gated(), timeouts_s={"g": 1.5})  # more than the first states need
    attempt = actor.attempt()
    await actor.run(attempt)
    assert actor.reports[0].status is RunStatus.TIMEOUT
    assert json.loads(actor.values[0]) == {"x": 1, "y": 1}


# --- events that are kept -------------------------------------------------------------------------


async def test_what_may_come_again_is_shown_once_it_is_durable() -> None:
    durable, gated = asyncio.Event(), Gated()
    actor = Actor(gated)
    actor.scripts["append"] = [durable]
    attempt = actor.attempt(resumable=True)
    life = asyncio.create_task(actor.run(attempt))
    await until(lambda: "append" in actor.happened)
    assert names(attempt) == ["metadata"]
    durable.set()
    await gated.begun.wait()
    gated.go.set()
    await life
    assert names(attempt) == ["metadata", "values", "values", "values"]
    assert [event.name for event in actor.kept] == names(attempt)


async def test_a_message_is_shown_once_its_begin_is_durable() -> None:
    """A death leaves no half message with a reader that the next attempt does not know of."""
    durable, streamed = asyncio.Event(), asyncio.Event()

    async def talk(state: State) -> State:
        await until(lambda: [event.name for event in actor.kept].count("values") == 2)
        actor.scripts["append"] = [durable]
        await FakeStreamingModel(n_tokens=3).ainvoke("hi")
        streamed.set()
        return {"x": 2}

    actor = Actor(talk)
    kwargs = {"input": {"x": 1}, "stream_mode": [*LOG_MODES], "subgraphs": True}
    attempt = actor.attempt(resumable=True, logged=True, kwargs=json.dumps(kwargs).encode())
    life = asyncio.create_task(actor.run(attempt))
    async with asyncio.timeout(BOUND_S):
        await streamed.wait()
    assert "@messages:node" not in names(attempt)
    durable.set()
    await life
    assert names(attempt).count("@messages:node") > 3
    assert [event.name for event in actor.kept] == names(attempt)


async def test_a_tail_that_meets_the_fence_steps_down() -> None:
    gated = Gated()
    actor = Actor(gated)
    actor.scripts["append"] = [Fenced("r")]
    attempt = actor.attempt(resumable=True)
    await actor.run(attempt)
    assert actor.gone == [attempt]
    assert attempt.log.closed
    assert not actor.reports


# --- cancels --------------------------------------------------------------------------------------


async def test_a_cancel_while_it_runs_interrupts_it_once() -> None:
    gated = Gated()
    actor = Actor(gated)
    attempt = actor.attempt()
    life = asyncio.create_task(actor.run(attempt))
    await gated.begun.wait()
    thread = threading.Thread(target=attempt.cancel, args=(True,))
    thread.start()
    await life
    thread.join()
    assert gated.cancels == 1
    assert actor.reports[0].status is RunStatus.INTERRUPTED
    assert actor.happened.index("settled") < actor.happened.index("values")
    assert json.loads(actor.values[0]) == {"x": 1, "y": 1}


async def test_a_cancel_before_it_begins_interrupts_it() -> None:
    actor = Actor(done)
    attempt = actor.attempt()
    attempt.cancel(keep_values=True)
    await asyncio.sleep(0)
    await actor.run(attempt)
    assert actor.reports[0].status is RunStatus.INTERRUPTED


async def test_a_cancel_between_order_and_graph_interrupts_it() -> None:
    """The cancel falls after the attempt began, and before its graph's task is there."""
    gated = Gated()
    actor = Actor(gated)
    attempt = actor.attempt()
    life = asyncio.create_task(actor.run(attempt))
    attempt.cancel(keep_values=True)  # the loop has begun neither
    await life
    assert actor.reports[0].status is RunStatus.INTERRUPTED
    assert gated.cancels <= 1


async def test_a_thread_that_goes_on_is_waited_for() -> None:
    goes_on = threading.Event()
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def node(state: State) -> State:
        def work() -> None:
            loop.call_soon_threadsafe(begun.set)
            goes_on.wait(BOUND_S)

        await loop.run_in_executor(actor.threads, work)
        return {}

    actor = Actor(node)
    attempt = actor.attempt()
    life = asyncio.create_task(actor.run(attempt))
    await begun.wait()
    attempt.cancel(keep_values=True)
    await turns()
    assert not actor.reports
    goes_on.set()
    await life
    assert actor.reports[0].status is RunStatus.INTERRUPTED


# --- another attempt is current -------------------------------------------------------------------


async def test_a_report_that_is_not_accepted_ends_a_dense_attempt_silently() -> None:
    actor = Actor(done)
    actor.scripts["report"] = [False]
    attempt = actor.attempt()
    await actor.run(attempt)
    assert actor.gone == [attempt]
    assert not actor.ended
    assert attempt.outcome is None
    assert attempt.log.closed


async def test_an_isolated_attempt_that_was_replaced_ends_the_process() -> None:
    actor = Actor(done, isolated=True)
    actor.scripts["values"] = [Fenced("r")]
    with pytest.raises(Gone):
        await actor.run(actor.attempt())
    assert actor.left_with == [EXIT_FENCED]
    assert not actor.reports


async def test_a_fence_in_a_checkpoint_steps_down() -> None:
    class Replaced(Saver):
        async def aput(self, *_: Any) -> Any:
            raise Fenced("r")

    actor = Actor(done)
    actor.saver = Replaced(actor)
    attempt = actor.attempt()
    await actor.run(attempt)
    assert actor.gone == [attempt]
    assert not actor.reports


async def test_a_fence_after_the_last_step_steps_down() -> None:
    """The saver took the checkpoint, and found only then that another attempt has the run."""
    actor = Actor(done)
    actor.scripts["all written"] = [Fenced("r")]
    attempt = actor.attempt()
    await actor.run(attempt)
    assert actor.gone == [attempt]
    assert not actor.reports
    assert not actor.values


async def test_a_run_whose_checkpoints_cannot_be_written_ends_in_error() -> None:
    actor = Actor(done)
    actor.scripts["all written"] = [ValueError("not stored")]
    await actor.run(actor.attempt())
    (report,) = actor.reports
    assert report.status is RunStatus.ERROR
    assert json.loads(report.error or b"") == {"error": "ValueError", "message": "not stored"}


# --- handing back ---------------------------------------------------------------------------------


async def test_a_drained_run_is_handed_back_after_its_superstep() -> None:
    actor = Actor(done)
    attempt = actor.attempt(resumable=True)
    attempt.drain()
    await actor.run(attempt)
    (report,) = actor.reports
    assert report.status is RunStatus.PENDING
    assert actor.gone == [attempt]
    assert attempt.outcome is None
    assert attempt.log.closed
    assert [event.name for event in actor.kept] == names(attempt)
    assert not actor.values


# --- what does not work ---------------------------------------------------------------------------


async def test_a_bug_of_ours_ends_the_run_in_error() -> None:
    actor = Actor(done)
    actor.scripts["values"] = [RuntimeError("a bug")]
    attempt = actor.attempt()
    await actor.run(attempt)
    assert actor.reports[0].status is RunStatus.ERROR
    assert json.loads(actor.reports[0].error or b"")["error"] == "InternalError"
    assert names(attempt)[-1] == "error"


async def test_a_graph_that_is_not_here_ends_the_run_in_error() -> None:
    actor = Actor(done)
    await actor.run(actor.attempt(graph_id="other"))
    assert actor.reports[0].status is RunStatus.ERROR


async def test_a_bug_after_a_failure_changes_nothing_of_what_is_told() -> None:
    async def fails(state: State) -> State:
        raise ValueError("boom")

    actor = Actor(fails)
    actor.scripts["report"] = [RuntimeError("a bug"), RuntimeError("and again")]
    attempt = actor.attempt()
    await actor.run(attempt)
    assert [json.loads(report.error or b"")["message"] for report in actor.reports] == ["boom"] * 3
    assert names(attempt).count("error") == 1
    assert actor.ended == [attempt]


async def test_a_bug_after_the_commit_shows_the_end_that_was_committed() -> None:
    actor = Actor(done)
    actor.scripts["at reported"] = [RuntimeError("a bug")]
    attempt = actor.attempt()
    await actor.run(attempt)
    assert len(actor.reports) == 1
    assert attempt.outcome is not None
    assert attempt.outcome.status is RunStatus.SUCCESS
    assert attempt.log.closed
