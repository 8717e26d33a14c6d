"""What is said to a run while it is executed: taken once, in order, at the next superstep."""

from __future__ import annotations

import asyncio
import json
import threading
from operator import add
from typing import Annotated, Any

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy, interrupt
from typing_extensions import TypedDict

import greenroom
from actors.run.attempt import Attempt
from actors.run.telling import Telling
from greenroom.core.inputs import INPUT_EVENT, HeardInput, next_run_id
from greenroom.graphs.configuration import GraphSpec
from greenroom.graphs.loading import LoadedGraph
from tests.actors.doubles import BOUND_S, until
from tests.actors.test_attempt import Actor, done


class State(TypedDict, total=False):
    said: Annotated[list[str], add]
    seen: Annotated[list[int], add]
    topic: str
    left: int


class Gates:
    """A graph that goes around; each round waits until it may end.

    Attributes:
        rounds: how often the node was executed.
    """

    def __init__(self, **compiled: Any) -> None:
        self.rounds = 0
        self.begun = asyncio.Event()
        self.may_end = asyncio.Semaphore(0)
        builder = StateGraph(State)
        builder.add_node("round", self._round)
        builder.add_node("other", lambda state: {"seen": [-1]})
        builder.add_edge(START, "round")
        builder.add_conditional_edges(
            "round", lambda state: "round" if state["left"] else "__end__"
        )
        builder.add_edge("other", "__end__")
        self.graph = builder.compile(**compiled)

    async def _round(self, state: State) -> State:
        self.rounds += 1
        self.begun.set()
        await self.may_end.acquire()
        self.begun.clear()
        return {"seen": [len(state.get("said", []))], "left": state.get("left", 1) - 1}


def around(graph: Any, **changes: Any) -> Actor:
    actor = Actor(done, **changes)
    actor.graph = LoadedGraph(spec=GraphSpec(graph_id="g", target="here:graph"), graph=graph)
    return actor


def given(**more: Any) -> bytes:
    kwargs = {"input": {"left": 3}, "stream_mode": ["values", "checkpoints"], **more}
    return json.dumps(kwargs).encode()


def told(attempt: Attempt, name: str = "input") -> list[Any]:
    return [json.loads(e.data) for e in attempt.log.read(0).events if e.name == name]


async def heard(attempt: Attempt, count: int = 1) -> None:
    """The attempt has read so many inputs."""
    await until(lambda: len(attempt._hearing.inbox._known) == count)


async def over(life: asyncio.Task[None]) -> None:
    await asyncio.wait_for(life, BOUND_S)


def under_way(graph: Any, **more: Any) -> tuple[Actor, Attempt, asyncio.Task[None]]:
    """An attempt at a graph, which goes on beside the test; what more it is given."""
    actor = around(graph)
    attempt = actor.attempt(kwargs=given(**more))
    return actor, attempt, asyncio.create_task(actor.run(attempt))


async def in_the_first_round(**more: Any) -> tuple[Gates, Actor, Attempt, asyncio.Task[None]]:
    """An attempt whose graph is in its first round, which waits until it may end."""
    gates = Gates()
    actor, attempt, life = under_way(gates.graph, **more)
    await gates.begun.wait()
    return gates, actor, attempt, life


async def told_before_it_began(graph: Any) -> Actor:
    """An actor that has executed a graph, to which something was said before."""
    actor = around(graph)
    attempt = actor.attempt(kwargs=given(), has_inputs=True)
    actor.say(attempt, update={"said": ["a"]})
    await actor.run(attempt)
    return actor


def values(actor: Actor) -> Any:
    return json.loads(actor.values[-1])


async def test_any_graph_takes_what_was_said_at_its_next_superstep() -> None:
    gates, actor, attempt, life = await in_the_first_round()
    first = actor.say(attempt, update={"said": ["a"], "topic": "x"})
    second = actor.say(attempt, update={"said": ["b"], "topic": "y"})
    await heard(attempt, 2)
    for _ in range(3):
        gates.may_end.release()
    await over(life)
    assert [report.status for report in actor.reports] == ["success"]
    assert values(actor) == {"said": ["a", "b"], "topic": "y", "seen": [0, 2, 2], "left": 0}
    assert gates.rounds == 3, "no superstep is executed twice"
    assert [taking.input_id for taking in actor.takings] == [first, second]
    events = told(attempt)
    assert [event["input_id"] for event in events] == [first, second]
    assert [event["step"] for event in events] == [2, 3]
    seen = [
        each["config"]["configurable"]["checkpoint_id"] for each in told(attempt, "checkpoints")
    ]
    assert len(seen) == len(set(seen)), "no checkpoint is shown twice"
    assert events[-1]["checkpoint_id"] in seen


async def test_a_run_takes_after_its_own_input_and_before_its_first_superstep() -> None:
    gates = Gates()
    actor = around(gates.graph)
    attempt = actor.attempt(kwargs=given(input={"left": 1, "said": ["own"]}), has_inputs=True)
    actor.say(attempt, update={"said": ["said"]})
    gates.may_end.release()
    await actor.run(attempt)
    assert values(actor) == {"said": ["own", "said"], "seen": [2], "left": 0}


async def test_an_input_in_the_name_of_a_node_goes_on_after_that_node() -> None:
    gates, actor, attempt, life = await in_the_first_round()
    actor.say(attempt, update={"said": ["stop"], "left": 0}, as_node="round")
    await heard(attempt)
    gates.may_end.release()
    await over(life)
    assert values(actor) == {"said": ["stop"], "seen": [0], "left": 0}
    assert gates.rounds == 1


async def test_a_command_goes_to_a_node_as_well() -> None:
    gates, actor, attempt, life = await in_the_first_round(input={"left": 2})
    actor.say(attempt, command={"update": {"topic": "t"}, "goto": "other"})
    await heard(attempt)
    gates.may_end.release()
    gates.may_end.release()
    await over(life)
    assert values(actor)["topic"] == "t"
    assert sorted(values(actor)["seen"]) == [-1, 0, 0]


async def test_what_the_state_cannot_take_is_refused_and_the_run_goes_on() -> None:
    gates, actor, attempt, life = await in_the_first_round(input={"left": 2})
    actor.say(attempt, update={"said": 5})
    actor.say(attempt, update={"said": ["b"]})
    await heard(attempt, 2)
    gates.may_end.release()
    gates.may_end.release()
    await over(life)
    assert [bool(taking.reason) for taking in actor.takings] == [True, False]
    assert values(actor)["said"] == ["b"]
    assert len(told(attempt)) == 1


async def killed(life: asyncio.Task[None], attempt: Attempt) -> None:
    """Ends an attempt as kill -9 does: it does nothing more."""
    attempt._superseded = True
    life.cancel()
    assert attempt._graph_task is not None
    attempt._graph_task.cancel()
    await asyncio.wait([life, attempt._graph_task], timeout=BOUND_S)


async def test_a_second_attempt_takes_only_what_the_first_has_not() -> None:
    gates, actor, one, life = await in_the_first_round()
    first = actor.say(one, update={"said": ["a"]})
    await heard(one)
    gates.may_end.release()
    await until(lambda: len(actor.takings) == 1 and gates.rounds == 2)
    second = actor.say(one, update={"said": ["b"]})
    await killed(life, one)
    two = actor.attempt(kwargs=given(), run_id=one.order.run_id, attempt=2, has_inputs=True)
    for _ in range(2):
        gates.may_end.release()
    await actor.run(two)
    assert values(actor) == {"said": ["a", "b"], "seen": [0, 1, 2], "left": 0}
    assert [taking.input_id for taking in actor.takings] == [first, second]
    assert [taking.attempt for taking in actor.takings] == [1, 2]
    # Its client may lack the event of what the first attempt took; it has the same id.
    assert [event["input_id"] for event in told(two)] == [first, second]


async def test_a_drain_hands_the_run_back_with_what_waits() -> None:
    gates, actor, attempt, life = await in_the_first_round()
    actor.say(attempt, update={"said": ["a"]})
    await heard(attempt)
    attempt.drain()
    gates.may_end.release()
    await over(life)
    assert [report.status for report in actor.reports] == ["pending"]
    assert actor.takings == []


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_every_durability_takes_what_was_said(durability: str) -> None:
    gates, actor, attempt, life = await in_the_first_round(durability=durability)
    actor.say(attempt, update={"said": ["a"]})
    await heard(attempt)
    for _ in range(3):
        gates.may_end.release()
    await over(life)
    assert values(actor) == {"said": ["a"], "seen": [0, 1, 1], "left": 0}


async def test_the_events_of_the_whole_run_are_one_stream() -> None:
    gates, actor, attempt, life = await in_the_first_round(stream_mode=["events", "updates"])
    actor.say(attempt, update={"said": ["a"]})
    await heard(attempt)
    for _ in range(3):
        gates.may_end.release()
    await over(life)
    assert len(told(attempt, "updates")) == 3
    assert len(told(attempt)) == 1
    assert values(actor)["seen"] == [0, 1, 1]


async def test_a_subgraph_is_not_paused() -> None:
    """Else the node around it, which may have had effects already, would be executed again."""
    gates = Gates()
    calls: list[str] = []

    async def outer(state: State) -> Any:
        calls.append("before")
        inner = await gates.graph.ainvoke({"left": 2})
        return {"seen": inner["seen"]}

    builder = StateGraph(State).add_node("outer", outer).add_edge(START, "outer")
    builder.add_node("last", lambda state: {"topic": ",".join(state["said"])})
    actor, attempt, life = under_way(builder.add_edge("outer", "last").compile())
    await gates.begun.wait()
    actor.say(attempt, update={"said": ["a"]})
    await heard(attempt)
    gates.may_end.release()
    gates.may_end.release()
    await over(life)
    assert calls == ["before"]
    assert values(actor)["topic"] == "a"


async def test_an_update_that_leads_to_a_breakpoint_stops_there() -> None:
    gates, actor, attempt, life = await in_the_first_round(interrupt_before=["other"])
    actor.say(attempt, command={"goto": "other"})
    await heard(attempt)
    gates.may_end.release()
    await over(life)
    assert actor.reports[0].has_next
    assert gates.rounds == 1


async def test_what_a_run_does_not_take_stays() -> None:
    gates, actor, attempt, life = await in_the_first_round(input={"left": 1})
    actor.say(attempt, update={"said": ["late"]})
    await heard(attempt)
    gates.may_end.release()
    await over(life)
    assert actor.takings == []
    assert values(actor)["said"] == []


async def test_a_run_that_an_update_in_the_name_of_a_node_starts_takes_it_first() -> None:
    gates = Gates()
    actor = around(gates.graph)
    gates.may_end.release()
    await actor.run(actor.attempt(kwargs=given(input={"left": 1})))
    heard_input = HeardInput(
        input_id="01890a5d-ac96-774b-bcce-b302099a8057",
        number=1,
        update={"left": 1},
        as_node="round",
    )
    actor.said.append(heard_input)
    run_id = next_run_id(heard_input.input_id, "t")
    gates.may_end.release()
    await actor.run(
        actor.attempt(run_id=run_id, kwargs=given(input=None), has_inputs=True, resumes=True)
    )
    assert gates.rounds == 2
    assert [taking.input_id for taking in actor.takings] == [heard_input.input_id]


# --- graphs that listen ---------------------------------------------------------------------------


def listener(node: Any, **options: Any) -> Any:
    builder = StateGraph(State).add_node("node", node, **options).add_edge(START, "node")
    builder.add_node("last", lambda state: {"topic": "done"}).add_edge("node", "last")
    return greenroom.listening(builder.compile())


async def test_a_node_waits_for_what_is_said() -> None:
    begun = asyncio.Event()

    async def node(state: State) -> Any:
        begun.set()
        (first,) = await greenroom.inbox().ahear()
        return {"said": [*first.update["said"], "heard"]}

    actor, attempt, life = under_way(listener(node))
    await begun.wait()
    said = actor.say(attempt, update={"said": ["a"]})
    await over(life)
    assert values(actor)["said"] == ["a", "heard"]
    assert [taking.input_id for taking in actor.takings] == [said]
    assert [event["input_id"] for event in told(attempt)] == [said]
    assert told(attempt)[0]["step"] == 1


async def test_a_node_on_a_thread_waits_as_well() -> None:
    begun = threading.Event()

    def node(state: State) -> Any:
        begun.set()
        inbox = greenroom.inbox()
        assert inbox.hear(timeout_s=0) == []
        (first,) = inbox.hear(timeout_s=BOUND_S)
        assert inbox.look() == []
        return {"said": first.update["said"]}

    actor, attempt, life = under_way(listener(node))
    await until(begun.is_set)
    actor.say(attempt, update={"said": ["a"]})
    await over(life)
    assert values(actor)["said"] == ["a"]
    assert len(actor.takings) == 1


async def test_a_cancel_ends_the_wait_of_a_node_on_a_thread() -> None:
    """Else its process would have to be killed."""
    begun = threading.Event()

    def node(state: State) -> Any:
        begun.set()
        assert greenroom.inbox().hear() == []

    actor, attempt, life = under_way(listener(node))
    await until(begun.is_set)
    attempt.cancel(True)
    await over(life)
    assert [report.status for report in actor.reports] == ["interrupted"]


async def test_a_node_that_is_executed_again_sees_the_same_inputs() -> None:
    """By another attempt after a kill: the node's writes were not stored."""
    seen: list[list[str]] = []
    go = asyncio.Event()

    async def node(state: State) -> Any:
        taken = await greenroom.inbox().ahear()
        seen.append([each.input_id for each in taken])
        await go.wait()
        return {"said": [each.update["said"][0] for each in taken]}

    actor, one, life = under_way(listener(node))
    await until(lambda: one._graph_task)
    said = actor.say(one, update={"said": ["a"]})
    await until(lambda: seen)
    await killed(life, one)
    assert actor.takings == []
    go.set()
    two = actor.attempt(kwargs=given(), run_id=one.order.run_id, attempt=2, has_inputs=True)
    await actor.run(two)
    assert seen == [[said], [said]]
    assert values(actor)["said"] == ["a"]
    assert [taking.attempt for taking in actor.takings] == [2]


async def test_a_retry_of_a_node_sees_the_same_inputs() -> None:
    seen: list[int] = []

    async def node(state: State) -> Any:
        taken = await greenroom.inbox().ahear()
        seen.append(len(taken))
        if len(seen) == 1:
            raise ValueError("try again")
        return {"said": taken[0].update["said"]}

    policy = RetryPolicy(initial_interval=0.001, retry_on=ValueError)
    actor = await told_before_it_began(listener(node, retry_policy=policy))
    assert seen == [1, 1]
    assert values(actor)["said"] == ["a"]
    assert len(actor.takings) == 1


async def test_a_node_that_asks_a_human_or_fails_has_taken_nothing() -> None:
    async def node(state: State) -> Any:
        greenroom.inbox().take()
        return {"said": [interrupt("?")]}

    actor = await told_before_it_began(listener(node))
    assert actor.reports[0].has_next
    assert actor.takings == []


async def test_a_tool_within_a_subgraph_takes_what_was_said() -> None:
    async def inner(state: State) -> Any:
        taken = greenroom.inbox().take()
        return {"said": [each.update["said"][0] for each in taken]}

    nested = StateGraph(State).add_node("inner", inner).add_edge(START, "inner").compile()
    builder = StateGraph(State).add_node("nested", nested).add_edge(START, "nested")
    actor = await told_before_it_began(greenroom.listening(builder.compile()))
    assert values(actor)["said"] == ["a"]
    assert len(actor.takings) == 1


async def test_a_graph_that_does_not_listen_says_so_to_its_node() -> None:
    async def node(state: State) -> Any:
        greenroom.inbox().take()

    builder = StateGraph(State).add_node("node", node).add_edge(START, "node")
    actor = around(builder.compile())
    await actor.run(actor.attempt(kwargs=given()))
    assert b"greenroom.listening" in (actor.reports[0].error or b"")


async def test_outside_of_a_server_nobody_says_anything() -> None:
    inbox = greenroom.inbox()
    assert inbox.look() == inbox.take() == inbox.hear(timeout_s=0) == []
    assert await inbox.ahear(timeout_s=0) == []
    with pytest.raises(RuntimeError, match="timeout_s"):
        await inbox.ahear()


async def test_what_was_taken_is_shown_once_that_is_durable() -> None:
    """Else a reader that the next attempt does not know of hears of it twice."""
    durable, actor = asyncio.Event(), Actor(done)
    actor.scripts["append"] = [durable]
    attempt = actor.attempt(resumable=True)
    telling = Telling(attempt.order, attempt.log, actor.deps(), lambda: None)
    telling.emit("custom", b"1")
    telling.emit(INPUT_EVENT, b'{"input_id": "a"}')
    await until(lambda: "append" in actor.happened)
    assert [event.name for event in attempt.log.read(0).events] == ["custom"]
    durable.set()
    await telling.flush()
    assert told(attempt) == [{"input_id": "a"}]
    assert [event.name for event in actor.kept] == ["custom", INPUT_EVENT]
