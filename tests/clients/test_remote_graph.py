"""`RemoteGraph` of the installed langgraph: a served graph behaves as the same graph here does."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.pregel.remote import RemoteException, RemoteGraph
from langgraph.types import Command, StateSnapshot
from langgraph_sdk import get_client, get_sync_client

from tests.graphs import probe_graphs
from tests.serving import Served

QUESTION: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}


@dataclass
class Remote:
    """Makes RemoteGraphs over clients that are closed after the test."""

    client: Any
    sync_client: Any

    def __call__(self, name: str) -> RemoteGraph:
        return RemoteGraph(name, client=self.client, sync_client=self.sync_client)


@pytest.fixture
def sync_client(server: Served) -> Iterator[Any]:
    with get_sync_client(url=server.url) as client:
        yield client


@pytest.fixture
async def remote(server: Served, sync_client: Any) -> AsyncIterator[Remote]:
    async with get_client(url=server.url) as client:
        yield Remote(client, sync_client)


@pytest.fixture
def remote_sync(sync_client: Any) -> Remote:
    return Remote(None, sync_client)


@pytest.fixture
def thread() -> RunnableConfig:
    return {"configurable": {"thread_id": str(uuid.uuid4())}}


def places(chunks: list[Any]) -> list[Any]:
    """The chunks with namespaces whose ids are left out, as they differ from run to run."""
    return [(tuple(part.split(":")[0] for part in namespace), *rest) for namespace, *rest in chunks]


def test_invoke_without_a_thread(remote_sync: Remote) -> None:
    expected = {"count": 4, "log": ["one", "two", "three"]}
    assert remote_sync("counter").invoke({"count": 1}) == expected


def test_invoke_on_a_thread_remembers(remote_sync: Remote, thread: RunnableConfig) -> None:
    counter = remote_sync("counter")
    counter.invoke({"count": 1}, thread)
    assert counter.invoke({}, thread)["count"] == 7


async def test_ainvoke_answers_with_messages(remote: Remote, thread: RunnableConfig) -> None:
    output = await remote("agent").ainvoke(QUESTION, thread)
    assert [message["type"] for message in output["messages"]] == ["human", "ai"]
    assert output["messages"][-1]["content"] == "tok0 tok1 tok2 tok3 tok4 "


async def test_context_reaches_the_graph(remote: Remote) -> None:
    output = await remote("ctx").ainvoke({}, context={"user": "ada", "n": 3})
    assert output["ctx"] == {"user": "ada", "n": 3}


async def test_config_reaches_the_graph(remote: Remote) -> None:
    config: RunnableConfig = {"configurable": {"n_tokens": 2}}
    output = await remote("agent").with_config(config).ainvoke(QUESTION)
    assert output["messages"][-1]["content"] == "tok0 tok1 "


@pytest.mark.parametrize("mode", ["values", "updates", "custom"])
async def test_one_mode_streams_what_the_graph_itself_streams(remote: Remote, mode: Any) -> None:
    given = {"count": 1, "log": []}
    here = [chunk async for chunk in probe_graphs.counter.astream(given, stream_mode=mode)]
    there = [chunk async for chunk in remote("counter").astream(given, stream_mode=mode)]
    assert there == here


async def test_a_synchronous_stream_of_several_modes(remote: Remote) -> None:
    modes: Any = ["values", "updates", "custom"]
    given = {"count": 1, "log": []}
    stream: Any = remote("counter").stream(given, stream_mode=modes)
    there = [(part.event, part.data) for part in await asyncio.to_thread(list, stream)]
    here: Any = probe_graphs.counter.astream(given, stream_mode=modes)
    assert there == [chunk async for chunk in here]


async def test_tasks_and_checkpoints_stream_too(remote: Remote, thread: RunnableConfig) -> None:
    modes: Any = ["tasks", "checkpoints"]
    stream: Any = remote("counter").astream({"count": 1}, thread, stream_mode=modes)
    parts = [part async for part in stream]
    started = [part.data["name"] for part in parts if "input" in part.data]
    assert started == ["one", "two", "three"]
    steps = [part.data["metadata"]["step"] for part in parts if part.event == "checkpoints"]
    assert steps == [-1, 0, 1, 2, 3]


async def test_tokens_stream_as_messages(remote: Remote) -> None:
    stream: Any = remote("agent").astream(QUESTION, stream_mode="messages")
    chunks = [chunk async for chunk in stream]
    assert "".join(message["content"] for message, _ in chunks) == "tok0 tok1 tok2 tok3 tok4 "
    assert {metadata["langgraph_node"] for _, metadata in chunks} == {"call_model"}


async def test_subgraphs_stream_under_their_namespaces(remote: Remote) -> None:
    modes: Any = ["values", "updates", "custom"]
    given = {"value": 0, "messages": []}
    here: Any = probe_graphs.parent.astream(given, stream_mode=modes, subgraphs=True)
    there: Any = remote("parent").astream(given, stream_mode=modes, subgraphs=True)
    # An event of the served graph is named after its namespace too: values|child:<id>.
    received = [(ns, mode, data) async for ns, mode, data in there]
    assert places(received) == places([chunk async for chunk in here])


async def test_the_second_version_of_stream_parts(remote: Remote, thread: RunnableConfig) -> None:
    output: Any = await remote("approval").ainvoke({"question": "May I?"}, thread, version="v2")
    assert output.value == {"question": "May I?"}
    (asked,) = output.interrupts
    assert asked.value == {"question": "May I?"}


async def test_as_a_node_of_a_local_graph_it_streams_through(remote: Remote) -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("remote", remote("agent"))
    builder.add_edge(START, "remote")
    graph = builder.compile()
    stream: Any = graph.astream(QUESTION, stream_mode=["updates", "messages"], subgraphs=True)
    chunks = [chunk async for chunk in stream]
    tokens = [data[0]["content"] for ns, mode, data in chunks if mode == "messages" and ns]
    assert "".join(tokens) == "tok0 tok1 tok2 tok3 tok4 "
    *_, (namespace, mode, update) = chunks
    assert (namespace, mode) == ((), "updates")
    assert update["remote"]["messages"][-1]["content"] == "tok0 tok1 tok2 tok3 tok4 "


async def test_as_a_node_its_subgraphs_stream_under_the_node(remote: Remote) -> None:
    builder = StateGraph(probe_graphs.PState)
    builder.add_node("remote", remote("parent"))
    builder.add_edge(START, "remote")
    stream: Any = builder.compile().astream({"value": 0}, stream_mode="updates", subgraphs=True)
    assert places([chunk async for chunk in stream]) == [
        (("remote",), {"pre": {"value": 1}}),
        (("remote", "child"), {"child_a": {"value": 11}}),
        (("remote", "child"), {"child_b": {"value": 111}}),
        (("remote",), {"child": {"value": 111, "messages": []}}),
        ((), {"remote": {"value": 111, "messages": []}}),
    ]


async def test_an_interrupt_in_a_remote_node_interrupts_the_local_graph(
    remote: Remote, thread: RunnableConfig
) -> None:
    builder = StateGraph(probe_graphs.ApprovalState)
    builder.add_node("remote", remote("approval"))
    builder.add_edge(START, "remote")
    graph = builder.compile(checkpointer=InMemorySaver())
    output = await graph.ainvoke({"question": "May I?"}, thread)
    (asked,) = output["__interrupt__"]
    assert asked.value == {"question": "May I?"}
    assert (await graph.aget_state(thread)).next == ("remote",)


async def test_an_interrupt_is_told_and_resumed(remote: Remote, thread: RunnableConfig) -> None:
    approval = remote("approval")
    output = await approval.ainvoke({"question": "May I?"}, thread)
    (asked,) = output["__interrupt__"]
    state = await approval.aget_state(thread)
    assert state.next == ("ask",)
    assert [one.id for one in state.interrupts] == [asked["id"]]
    assert [one.value for one in state.tasks[0].interrupts] == [{"question": "May I?"}]
    done = await approval.ainvoke(Command(resume="yes"), thread)
    assert done == {"question": "May I?", "answer": "yes", "done": True}
    assert (await approval.aget_state(thread)).next == ()


def test_a_breakpoint_stops_before_a_node(remote_sync: Remote, thread: RunnableConfig) -> None:
    counter = remote_sync("counter")
    counter.invoke({"count": 1}, thread, interrupt_before=["three"])
    assert counter.get_state(thread).next == ("three",)
    assert counter.invoke(None, thread)["count"] == 4


async def test_an_error_of_the_graph_is_a_remote_exception(remote: Remote) -> None:
    with pytest.raises(RemoteException, match="boom: x=1"):
        await remote("fails").ainvoke({"x": 0})


def test_state_and_history_are_those_of_the_thread(
    remote_sync: Remote, thread: RunnableConfig
) -> None:
    counter = remote_sync("counter")
    counter.invoke({"count": 1}, thread)
    state = counter.get_state(thread)
    assert state.values == {"count": 4, "log": ["one", "two", "three"]}
    assert state.metadata is not None
    assert state.metadata["step"] == 3

    history = list(counter.get_state_history(thread))
    assert [one.metadata["step"] for one in history if one.metadata] == [3, 2, 1, 0, -1]
    assert history[0].config == state.config
    assert history[0].parent_config == history[1].config
    assert counter.get_state(history[2].config).values == {"count": 2, "log": ["one"]}

    assert list(counter.get_state_history(thread, limit=2)) == history[:2]
    earlier = list(counter.get_state_history(thread, before=history[2].config))
    assert earlier == history[3:]
    loops = list(counter.get_state_history(thread, filter={"source": "input"}))
    assert loops == history[-1:]


async def test_a_run_goes_on_from_an_earlier_checkpoint(
    remote: Remote, thread: RunnableConfig
) -> None:
    """RemoteGraph leaves the checkpoint out of a run's config: it is given as the SDK's option."""
    counter = remote("counter")
    await counter.ainvoke({"count": 1}, thread)
    history = [state async for state in counter.aget_state_history(thread)]
    after_one = history[2].config["configurable"]["checkpoint_id"]
    output = await counter.ainvoke(None, thread, checkpoint_id=after_one)
    assert output == {"count": 4, "log": ["one", "two", "three"]}
    assert len([state async for state in counter.aget_state_history(thread)]) > len(history)


async def test_an_update_of_the_state_is_seen(remote: Remote, thread: RunnableConfig) -> None:
    counter = remote("counter")
    await counter.ainvoke({"count": 1}, thread)
    config = await counter.aupdate_state(thread, {"count": 70}, as_node="two")
    state = await counter.aget_state(thread)
    assert state.config["configurable"]["checkpoint_id"] == config["configurable"]["checkpoint_id"]
    assert (state.values["count"], state.next) == (70, ("three",))
    assert (await counter.ainvoke(None, thread))["count"] == 71


def test_an_update_at_an_earlier_checkpoint_forks(
    remote_sync: Remote, thread: RunnableConfig
) -> None:
    counter = remote_sync("counter")
    counter.invoke({"count": 1}, thread)
    after_one = list(counter.get_state_history(thread))[2]
    config = counter.update_state(after_one.config, {"count": 10})
    forked = counter.get_state(config)
    assert (forked.values["count"], forked.next) == (10, ("two",))
    assert forked.parent_config == after_one.config


async def test_a_subgraph_tells_its_state_and_its_interrupt_is_resumed(
    remote: Remote, thread: RunnableConfig
) -> None:
    trip = remote("trip")
    await trip.ainvoke({"place": "Oslo"}, thread)
    state = await trip.aget_state(thread, subgraphs=True)
    (task,) = state.tasks
    assert isinstance(task.state, StateSnapshot)
    assert (task.name, task.state.next) == ("booking", ("approve",))
    assert task.state.values == {"place": "Oslo"}
    assert [one.value for one in task.state.interrupts] == [{"book": "Oslo"}]
    done = await trip.ainvoke(Command(resume=True), thread)
    assert done == {"place": "Oslo", "approved": True}


def test_the_drawing_is_that_of_the_graph(remote_sync: Remote) -> None:
    for name, xray in (("counter", False), ("parent", False), ("parent", True)):
        here = getattr(probe_graphs, name).get_graph(xray=xray)
        there = remote_sync(name).get_graph(xray=xray)
        assert set(there.nodes) == set(here.nodes)
        edges = {(edge.source, edge.target) for edge in here.edges}
        assert {(edge.source, edge.target) for edge in there.edges} == edges


async def test_a_drawing_can_be_awaited(remote: Remote) -> None:
    drawn = await remote("counter").aget_graph()
    assert set(drawn.nodes) == {"__start__", "one", "two", "three", "__end__"}
