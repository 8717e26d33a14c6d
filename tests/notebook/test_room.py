"""A room with graphs of this file: shipped by value, replaced while they run, killed, resumed."""

from __future__ import annotations

import asyncio
import operator
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AnyMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt
from pydantic import BaseModel
from typing_extensions import TypedDict

import greenroom
from greenroom.core.errors import ConfigurationError, GreenroomError
from tests.waiting import until_without_loop

WAIT_S = 90.0


class Chat(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


class Verdict(BaseModel):
    words: list[str]


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    verdict: Verdict


model = FakeListChatModel(responses=["Good evening."])


async def answer(state: Chat) -> Chat:
    return {"messages": [await model.ainvoke(state["messages"])]}


def judge(state: State) -> State:
    return {"verdict": Verdict(words=state["log"])}


def ask(state: State) -> State:
    # A checkpoint lies between: the class is found again in whichever process reads it.
    assert isinstance(state["verdict"], Verdict)
    return {"log": [interrupt("Really?")]}


CHAT = StateGraph(Chat).add_node(answer).add_edge(START, "answer").compile()
JUDGE = (
    StateGraph(State)
    .add_node(judge)
    .add_node(ask)
    .add_edge(START, "judge")
    .add_edge("judge", "ask")
)


def gated(version: str, gate: Path) -> Any:
    """Two nodes; the second says its version once the gate is there."""

    async def first(state: State) -> State:
        return {"log": [f"first {version}"]}

    async def second(state: State) -> State:
        while not os.path.exists(gate):  # noqa: ASYNC110, ASYNC240 - another process makes it
            await asyncio.sleep(0.02)
        return {"log": [f"second {version}"]}

    return (
        StateGraph(State)
        .add_node(first)
        .add_node(second)
        .add_edge(START, "first")
        .add_edge("first", "second")
        .compile()
    )


@pytest.fixture(scope="module")
def room() -> Iterator[greenroom.Room]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GREENROOM_GATEWAY_REPLICAS", "1")  # nothing here kills one
        patch.setenv("GREENROOM_HAPROXY", "false")  # a second of CPU
        with greenroom.open({"chat": CHAT, "judge": JUDGE}, quiet=True) as room:
            yield room


def in_second(run: greenroom.RunRecord) -> bool:
    return "second" in greenroom.running_nodes(run)


def test_a_graph_of_this_process_streams_its_tokens(room: greenroom.Room) -> None:
    parts = [part for part in room.stream("Hello", graph="chat") if part.event == "messages"]
    assert "".join(part.data[0]["content"] for part in parts) == "Good evening."


async def test_sync_methods_and_the_client_work_within_a_running_loop(room: greenroom.Room) -> None:
    state = room.run("Hello", graph="chat")
    assert state["messages"][-1]["content"] == "Good evening."
    async with room.client as client:
        assert await client.threads.count() > 0


def test_a_run_that_was_watched_tells_what_it_said_and_who_did_it(room: greenroom.Room) -> None:
    run = room.watch("Hello", graph="chat", label="watched")
    assert (run.status, run.text, run.record.attempt) == ("success", "Good evening.", 1)
    assert run.record.actor.startswith("run-")
    row = greenroom.runs_table([run.record])[0]
    assert (row["run"], row["nodes"]) == ("watched", "answer")


def test_opening_again_is_the_same_room(room: greenroom.Room) -> None:
    assert greenroom.open() is room


def test_a_replaced_graph_is_for_the_next_run_and_running_ones_finish_on_theirs(
    room: greenroom.Room, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    greenroom.open({"gated": gated("one", gate)})
    old = room.start({"log": []}, graph="gated")
    old.wait_for(in_second, WAIT_S)
    greenroom.open({"gated": gated("two", gate)})
    new = room.start({"log": []}, graph="gated")
    new.wait_for(in_second, WAIT_S)
    gate.touch()
    assert old.wait(WAIT_S).values["log"] == ["first one", "second one"]
    assert new.wait(WAIT_S).values["log"] == ["first two", "second two"]


def test_a_run_that_is_killed_goes_on_with_the_graph_that_it_began_with(
    room: greenroom.Room, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    greenroom.open({"gated": gated("before", gate)})
    run = room.start({"log": []}, graph="gated", durability="sync")
    run.wait_for(in_second, WAIT_S)
    greenroom.open({"gated": gated("after", gate)})
    pid = room.process_of(run)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    run.wait_for(lambda record: record.attempt == 2, WAIT_S)
    gate.touch()
    assert run.wait(WAIT_S).values["log"] == ["first before", "second before"]
    assert len(set(run.record.actors.values())) == 2


def test_classes_of_the_notebook_survive_in_the_state(room: greenroom.Room) -> None:
    thread = room.new_thread()
    asked = room.start({"log": ["a", "b"]}, graph="judge", thread=thread).wait(WAIT_S)
    assert asked.record.waits_for == ["Really?"], asked.error
    state = room.run(graph="judge", thread=thread, command={"resume": "yes"})
    assert state == {"log": ["a", "b", "yes"], "verdict": {"words": ["a", "b"]}}


def test_what_a_graph_looks_like_is_that_of_the_newest_version(room: greenroom.Room) -> None:
    greenroom.open({"shape": CHAT})
    before = room.sync_client.assistants.get_graph("shape")
    greenroom.open({"shape": JUDGE})
    after = room.sync_client.assistants.get_graph("shape")
    assert [node["id"] for node in before["nodes"]] == ["__start__", "answer", "__end__"]
    assert [node["id"] for node in after["nodes"]] == ["__start__", "judge", "ask", "__end__"]
    assert "4 nodes" in repr(room.draw("shape"))


def test_many_runs_are_all_over_and_a_picture_shows_them(room: greenroom.Room) -> None:
    records = room.map(["one", "two", "three"], graph="chat")
    assert [record.status for record in records] == ["success"] * 3
    assert len({record.thread_id for record in records}) == 3
    assert "3 runs" in repr(greenroom.timeline(records))


def test_a_run_can_be_spoken_to(room: greenroom.Room, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    greenroom.open({"gated": gated("x", gate)})
    run = room.start({"log": []}, graph="gated")
    run.wait_for(in_second, WAIT_S)
    with pytest.raises(Exception, match="no key 'lgo'"):
        run.say({"lgo": ["said"]})
    input_id = run.say({"log": ["said"]})
    gate.touch()
    run.wait(WAIT_S)
    # It was in its last superstep: what is said starts the next run.
    assert [(each["input_id"], each["status"]) for each in run.said()] == [(input_id, "started")]


def test_a_run_can_be_cancelled(room: greenroom.Room, tmp_path: Path) -> None:
    greenroom.open({"gated": gated("x", tmp_path / "never")})
    run = room.start({"log": []}, graph="gated")
    run.wait_for(in_second, WAIT_S)
    room.cancel(run)
    assert run.status == "interrupted"


def test_a_run_is_looked_into_paused_stepped_and_drawn(
    room: greenroom.Room, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    greenroom.open({"gated": gated("x", gate)})
    run = room.start({"log": []}, graph="gated")
    run.wait_for(in_second, WAIT_S)

    def by_its_actor() -> Any:
        """On a busy machine the actor may answer late: then there are threads only, by a signal."""
        stack = run.stack()
        return stack if stack["by"] == "actor" else None

    stack = until_without_loop(by_its_actor)
    assert stack["run_id"] == run.run_id
    assert [each["of_this_run"] for each in stack["tasks"] if each["node"]]
    run.cancel()
    with pytest.raises(httpx.HTTPStatusError):
        run.stack()
    drawn = run.timeline()
    assert drawn["spans"][0]["kind"] == "queued"
    stored = greenroom.notebook.record_of(drawn)
    assert greenroom.notebook.spans(stored) == greenroom.notebook.spans(run.record)
    gate.touch()
    again = room.start({"log": []}, graph="gated", thread=room.new_thread())
    again.wait(WAIT_S)
    forked = again.fork()
    assert forked["thread_id"] == again.thread_id


def test_threads_and_runs_are_tables(room: greenroom.Room) -> None:
    run = room.start("Hello", graph="chat").wait(WAIT_S)
    assert run.thread_id in {row["thread"] for row in room.threads}
    assert [(row["run"], row["status"]) for row in room.runs(run.thread_id)] == [
        (run.run_id, "success")
    ]
    assert all(row["process"] for row in room.actors if row["state"] == "ready")


def test_a_server_that_cannot_start_says_why_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(GreenroomError, match=r"There is no configuration at .*missing\.json"):
        greenroom.open(tmp_path / "missing.json", quiet=True)
    assert list(tmp_path.glob("greenroom-room-*")) == []


def test_a_run_of_an_unknown_graph_says_so_at_once(room: greenroom.Room) -> None:
    with pytest.raises(GreenroomError, match="not created"):
        room.start("Hello", graph="nobody")


def test_another_placement_of_a_known_graph_is_refused(room: greenroom.Room) -> None:
    with pytest.raises(ConfigurationError, match="another placement"):
        greenroom.open({"chat": CHAT}, placements={"chat": {"runs_per_actor": 7}})


def test_a_placement_of_a_graph_that_is_not_there_is_refused(room: greenroom.Room) -> None:
    with pytest.raises(ConfigurationError, match="'caht'"):
        greenroom.open({"chat": CHAT}, placements={"caht": {"warm": 2}})


def test_ray_stays_out_of_the_process_that_has_the_room(room: greenroom.Room) -> None:
    assert room.alive
    assert "ray" not in sys.modules or sys.modules["ray"].is_initialized() is False
