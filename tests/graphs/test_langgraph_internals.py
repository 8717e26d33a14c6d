"""What LangGraph promises nobody, and Greenroom builds upon: each test says what breaks without it.

A failure here after an upgrade names what to look at in `greenroom/langgraph_internals.py`.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import inspect
import sys
from collections.abc import Coroutine
from typing import Any, TypedDict, cast

import ormsgpack
import pytest
from langchain_core.documents import Document
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import RunControl
from langgraph.stream import LifecycleTransformer
from langgraph.types import Command, Send, StateUpdate, interrupt

from greenroom import langgraph_internals as internals
from tests.graphs.probe_graphs import FakeStreamingModel


class State(TypedDict, total=False):
    text: str


@dataclasses.dataclass
class Kept:
    a: int


def asks(state: State) -> State:
    return {"text": interrupt("?")}


def test_strict_resume_refuses_an_answer_that_nobody_waits_for() -> None:
    """Else an answer to a question that is answered already goes to the next one."""
    builder = StateGraph(State).add_node("asks", asks).add_edge(START, "asks")
    graph = builder.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    graph.invoke({"text": ""}, config)
    (waiting,) = graph.get_state(config).interrupts
    strict: Any = {
        "configurable": {**config["configurable"], internals.CONFIG_KEY_STRICT_RESUME: True}
    }
    with pytest.raises(Exception, match=r"(?i)interrupt|resume"):
        graph.invoke(Command(resume={"f" * 32: "late"}), strict)
    assert graph.get_state(config).interrupts == (waiting,)
    assert graph.invoke(Command(resume={waiting.id: "yes"}), strict)["text"] == "yes"


def test_a_command_becomes_writes_of_the_null_task() -> None:
    """Else a second attempt does not see that its update is stored, and applies it twice."""
    command: Command[Any] = Command(
        resume="yes", update={"text": "new"}, goto=["a", Send("b", {"text": "x"})]
    )
    writes = list(internals.map_command(command))
    assert {task_id for task_id, _, _ in writes} == {internals.NULL_TASK_ID}
    assert [value for _, channel, value in writes if channel == internals.RESUME] == ["yes"]
    assert ("text", "new") in [(channel, value) for _, channel, value in writes]
    assert ("branch:to:a", START) in [(channel, value) for _, channel, value in writes]


def test_the_writes_of_a_command_are_stored_on_the_checkpoint_before() -> None:
    """Else `resume._not_yet_stored` looks in the wrong place."""
    saver = InMemorySaver()
    graph = (
        StateGraph(State).add_node("asks", asks).add_edge(START, "asks").compile(checkpointer=saver)
    )
    config: Any = {"configurable": {"thread_id": "t"}}
    graph.invoke({"text": ""}, config)
    before = graph.get_state(config).config
    graph.invoke(Command(resume="yes", update={"text": "new"}), config)
    saved = saver.get_tuple(before)
    assert saved is not None
    null = [
        (channel, value)
        for task_id, channel, value in saved.pending_writes or ()
        if task_id == internals.NULL_TASK_ID
    ]
    assert (internals.RESUME, "yes") in null
    assert ("text", "new") in null


def test_a_breakpoint_is_told_from_names_of_tasks() -> None:
    """Else a run that died at a breakpoint goes past it in its next attempt."""
    checkpoint = empty_checkpoint()
    checkpoint["channel_versions"] = {"text": "2"}

    class Named:
        def __init__(self, name: str) -> None:
            self.name, self.config = name, None

    tasks = cast(Any, [Named("a"), Named("b")])

    def stops(nodes: Any) -> list[str]:
        return [task.name for task in internals.should_interrupt(checkpoint, nodes, tasks)]

    assert stops(["b", "c"]) == ["b"]
    assert stops("*") == ["a", "b"]
    checkpoint["versions_seen"] = {"__interrupt__": {"text": "2"}}
    assert stops(["b"]) == []


def test_a_task_with_a_write_is_finished_and_one_that_asks_is_not() -> None:
    """Else a client reads again what an earlier attempt has told it, or misses what it has not."""
    statuses = internals.read_task_statuses(
        [
            (internals.NULL_TASK_ID, "text", "of the command"),
            ("done", "text", "written"),
            ("asking", "__interrupt__", ["?"]),
            ("failed", "__error__", ValueError("no")),
        ]
    )
    assert {task: status.finished for task, status in statuses.items()} == {
        "done": True,
        "asking": False,
        "failed": False,
    }


def test_a_schema_is_made_from_the_types_of_channels() -> None:
    """Else `GET /assistants/{id}/schemas` has no schema of the state."""
    made = internals.create_model("State", field_definitions={"count": (int, None)})
    schema = made.model_json_schema()
    assert schema["title"] == "State"
    assert schema["properties"]["count"]["type"] == "integer"


def test_a_value_of_a_delta_channel_is_a_tuple_like_record() -> None:
    """Else it passes for plain JSON, and comes back as a list that LangGraph cannot read."""
    assert list(inspect.signature(internals.DeltaSnapshot).parameters) == ["value"]
    assert internals.DeltaSnapshot([1]).value == [1]


def test_a_factory_is_given_a_runtime_for_its_access() -> None:
    """Else no graph factory that takes a `ServerRuntime` loads."""
    read = internals.ReadRuntime(access_context="threads.read", user=None, store=cast(Any, None))
    assert read.execution_runtime is None
    execution = internals.ExecutionRuntime(
        access_context="threads.create_run", user=None, store=cast(Any, None), context={"a": 1}
    )
    assert execution.execution_runtime is execution
    assert execution.context == {"a": 1}


async def test_langgraph_makes_all_tasks_with_the_factory_of_the_loop() -> None:
    """Else `SystemExit` in a node stops the loop of all runs of a process."""
    made: list[str] = []
    loop = asyncio.get_running_loop()

    def factory(
        loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **named: Any
    ) -> asyncio.Future[Any]:
        made.append(getattr(coro, "__qualname__", ""))
        return asyncio.Task(coro, loop=loop, **named)

    async def node(state: State) -> State:
        return {"text": "done"}

    async def nothing(state: State) -> State:
        return {}

    # Two at once: a single task is executed without one of asyncio's.
    graph = StateGraph(State).add_node("a", node).add_node("b", nothing)
    graph.add_edge(START, "a").add_edge(START, "b")
    assert hasattr(internals._future, "EAGER_NOT_SUPPORTED")
    before = internals._future.EAGER_NOT_SUPPORTED
    internals.make_no_eager_tasks()
    loop.set_task_factory(factory)
    try:
        assert await graph.compile().ainvoke({"text": ""}) == {"text": "done"}
    finally:
        loop.set_task_factory(None)
        setattr(internals._future, "EAGER_NOT_SUPPORTED", before)  # noqa: B010
    assert any("arun_with_retry" in name for name in made), made
    assert before is (sys.version_info < (3, 12)) or before is True


@pytest.mark.parametrize("durability", ["async", "sync", "exit"])
async def test_a_saver_is_told_the_durability(durability: Any) -> None:
    """Else every execution waits for each of its checkpoints (`persistence.ordered_writes`)."""
    told: list[Any] = []

    class Told(InMemorySaver):
        async def aput(self, config: Any, *rest: Any) -> Any:
            told.append(config["configurable"].get(internals.CONFIG_KEY_DURABILITY))
            return await super().aput(config, *rest)

    inner = StateGraph(State).add_node("in", lambda _: {"text": "x"}).add_edge(START, "in")
    outer = StateGraph(State).add_node("out", inner.compile(checkpointer=True))
    graph = outer.add_edge(START, "out").compile(checkpointer=Told())
    config: Any = {"configurable": {"thread_id": "t"}}
    await graph.ainvoke({"text": ""}, config, durability=durability)
    assert set(told) == {durability}


def test_the_encoding_of_values_is_langgraphs_own(caplog: pytest.LogCaptureFixture) -> None:
    """Else values with others in them cannot be read (`persistence.packing`)."""
    serde = JsonPlusSerializer(allowed_msgpack_modules=True)

    def packed(value: Any, kind: int, *parts: Any) -> bytes:
        names = (type(value).__module__, type(value).__name__)
        inner = ormsgpack.packb((*names, *parts), option=internals.MSGPACK_OPTION)
        return ormsgpack.packb(ormsgpack.Ext(kind, inner), option=internals.MSGPACK_OPTION)

    for value, kind, parts in (
        (
            Document("t"),
            internals.MSGPACK_MODEL,
            (Document("t").model_dump(), "model_validate_json"),
        ),
        (Kept(a=1), internals.MSGPACK_KEYWORDS, ({"a": 1},)),
        ({1}, internals.MSGPACK_ARGUMENT, ([1],)),
        (Send("n", 1), internals.MSGPACK_ARGUMENTS, (["n", 1],)),
    ):
        assert serde.dumps_typed(value) == ("msgpack", packed(value, kind, *parts))
        assert serde.loads_typed(serde.dumps_typed(value)) == value
    delta = internals.DeltaSnapshot(1)
    inner = ormsgpack.Ext(internals.MSGPACK_DELTA, ormsgpack.packb(1))
    assert serde.dumps_typed(delta) == ("msgpack", ormsgpack.packb(inner))
    caplog.clear()
    assert serde.loads_typed(("msgpack", packed((), internals.MSGPACK_ARGUMENT, [1]))) == (1,)
    assert caplog.messages == []
    assert isinstance(internals.msgpack_default(Document("t")), ormsgpack.Ext)
    assert internals.STRICT_MSGPACK is False


def test_a_copy_of_a_graph_keeps_the_types_that_its_schemas_allow() -> None:
    """Else `LANGGRAPH_STRICT_MSGPACK` refuses the classes of the graph's own state."""
    graph = StateGraph(State).add_node("asks", asks).add_edge(START, "asks").compile()
    graph._serde_allowlist = {("module", "Class")}
    copied = graph.copy()
    internals.keep_allowlist(copied, graph)
    assert copied._serde_allowlist == {("module", "Class")}


async def test_models_stream_blocks_under_a_key_of_the_config() -> None:
    """Else the log of a thread has no messages."""

    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await FakeStreamingModel().ainvoke("hi")]}

    builder = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer")
    config: Any = {"configurable": {internals.CONFIG_KEY_STREAM_MESSAGES_V2: True}}
    kinds = [
        part["data"][0]["event"]
        async for part in builder.compile().astream(
            {"messages": []}, config, stream_mode=["messages"], version="v2"
        )
    ]
    assert kinds[0] == "message-start"
    assert kinds[-1] == "message-finish"
    assert "content-block-delta" in kinds


async def test_a_mux_gives_back_what_passes_its_transformers() -> None:
    """Else the log of a thread has no lives of subgraphs, and nothing of a graph's transformers."""
    mux = internals.make_mux([LifecycleTransformer])
    task = {"id": "1", "name": "node", "input": {}, "metadata": {}}
    event: Any = {
        "type": "event",
        "method": "tasks",
        "params": {"namespace": ["child:1"], "timestamp": 1, "data": task},
    }
    await mux.apush(event)
    values: Any = {**event, "method": "values"}
    await mux.apush(values)
    assert [each["method"] for each in internals.taken(mux)] == ["lifecycle", "values"]
    assert [*internals.taken(mux)] == []
    await mux.aclose()
    (ended,) = internals.taken(mux)
    assert ended["params"]["data"]["event"] == "completed"


async def test_an_update_for_the_input_channels_leaves_alone_what_is_next() -> None:
    """Else a run that takes what was said to it would forget the nodes that were next."""
    builder = StateGraph(State).add_node("a", asks).add_edge(START, "a")
    graph = builder.compile(checkpointer=InMemorySaver(), interrupt_before=["a"])
    config: Any = {"configurable": {"thread_id": "t"}}
    await graph.ainvoke({"text": "old"}, config)
    changed: Any = copy.copy(graph)
    changed.input_channels = ["text"]
    update = StateUpdate({"text": "new"}, internals.INPUT)
    await changed.abulk_update_state(config, [[update]])
    state = await graph.aget_state(config)
    assert (state.values, state.next) == ({"text": "new"}, ("a",))
    assert internals.TASKS in graph.channels


async def test_a_drain_is_asked_for_once_before_each_superstep() -> None:
    """Else a run would take what was said within the first superstep of an execution."""
    asked: list[str] = []

    class Asked(RunControl):
        @property
        def drain_requested(self) -> bool:
            asked.append("asked")
            return False

    builder = StateGraph(State).add_node("a", lambda state: {}).add_node("b", lambda state: {})
    graph = builder.add_edge(START, "a").add_edge("a", "b").compile()
    await graph.ainvoke({"text": ""}, control=Asked())
    assert len(asked) == 3, "the input, a, and b"


def test_a_channel_is_made_without_a_value() -> None:
    graph = StateGraph(State).add_node("a", asks).add_edge(START, "a").compile()
    channel: Any = graph.channels["text"]
    assert channel.from_checkpoint(internals.MISSING).update(["new"])
