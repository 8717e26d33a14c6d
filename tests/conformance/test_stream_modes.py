"""Which events a run has for each ``stream_mode`` (platform API, section 3)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.talking import Frame, Talk, names

COUNT = {"count": 0}
QUESTION = {"messages": [{"role": "user", "content": "hi"}]}
TOKENS = "tok0 tok1 tok2 tok3 tok4 "


async def after_metadata(talk: Talk, graph: str, **body: Any) -> list[Frame]:
    frames = await talk.streamed(await talk.new_thread(), graph, **body)
    assert frames[0].name == "metadata"
    return frames[1:]


@pytest.mark.parametrize("mode", [None, [], "values", ["values"]])
async def test_values_are_the_whole_state_after_every_step(talk: Talk, mode: Any) -> None:
    asked = {} if mode is None else {"stream_mode": mode}
    frames = await after_metadata(talk, "counter", input=COUNT, **asked)
    assert [(f.name, f.data) for f in frames] == [
        ("values", {"count": 0, "log": []}),
        ("values", {"count": 1, "log": ["one"]}),
        ("values", {"count": 2, "log": ["one", "two"]}),
        ("values", {"count": 3, "log": ["one", "two", "three"]}),
    ]


async def test_updates_are_what_each_node_returned(talk: Talk) -> None:
    frames = await after_metadata(talk, "counter", input=COUNT, stream_mode="updates")
    assert [(f.name, f.data) for f in frames] == [
        ("updates", {name: {"count": n, "log": [name]}})
        for n, name in enumerate(("one", "two", "three"), 1)
    ]


async def test_custom_is_what_the_nodes_wrote(talk: Talk) -> None:
    frames = await after_metadata(talk, "counter", input=COUNT, stream_mode="custom")
    assert [(f.name, f.data) for f in frames] == [
        ("custom", {"from": name, "count": n}) for n, name in enumerate(("one", "two", "three"))
    ]


async def test_several_modes_of_a_step_come_custom_updates_values(talk: Talk) -> None:
    frames = await after_metadata(
        talk, "counter", input=COUNT, stream_mode=["values", "updates", "custom"]
    )
    assert names(frames) == ["values", *["custom", "updates", "values"] * 3]


async def test_tasks_begin_and_end(talk: Talk) -> None:
    frames = await after_metadata(talk, "counter", input=COUNT, stream_mode="tasks")
    assert names(frames) == ["tasks"] * 6
    begun, done = frames[0].data, frames[1].data
    assert {"id", "name", "input", "triggers"} <= set(begun)
    assert {"id", "name", "error", "result", "interrupts"} <= set(done)
    assert begun["id"] == done["id"]
    assert (begun["name"], done["error"], done["interrupts"]) == ("one", None, [])
    assert done["result"] == {"count": 1, "log": ["one"]}


async def test_checkpoints_say_values_and_next(talk: Talk) -> None:
    frames = await after_metadata(talk, "counter", input=COUNT, stream_mode="checkpoints")
    assert {f.name for f in frames} == {"checkpoints"}
    assert [f.data["metadata"]["step"] for f in frames] == [-1, 0, 1, 2, 3]
    assert [f.data["next"] for f in frames] == [["__start__"], ["one"], ["two"], ["three"], []]
    assert frames[-1].data["values"]["count"] == 3
    assert {"config", "parent_config", "tasks"} <= set(frames[-1].data)


async def test_debug_wraps_checkpoints_and_tasks(talk: Talk) -> None:
    frames = await after_metadata(talk, "counter", input=COUNT, stream_mode="debug")
    assert {f.name for f in frames} == {"debug"}
    kinds = [f.data["type"] for f in frames]
    assert kinds == [
        *("checkpoint", "checkpoint"),
        *("task", "task_result", "checkpoint") * 3,
    ]
    assert all(set(f.data) == {"step", "timestamp", "type", "payload"} for f in frames)
    assert {"checkpoint", "parent_checkpoint", "values"} <= set(frames[0].data["payload"])


async def test_tasks_and_checkpoints_are_followed_by_their_debug_twins(talk: Talk) -> None:
    frames = await after_metadata(
        talk, "counter", input=COUNT, stream_mode=["debug", "tasks", "checkpoints"]
    )
    assert names(frames)[1::2] == ["debug"] * (len(frames) // 2)
    assert set(names(frames)[::2]) == {"tasks", "checkpoints"}


async def test_messages_tuple_streams_chunks_with_their_metadata(talk: Talk) -> None:
    frames = await after_metadata(talk, "agent", input=QUESTION, stream_mode="messages-tuple")
    assert {f.name for f in frames} == {"messages"}
    chunks = [f.data[0] for f in frames]
    assert "".join(chunk["content"] for chunk in chunks) == TOKENS
    assert {chunk["type"] for chunk in chunks} == {"AIMessageChunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[-1]["chunk_position"] == "last"
    metadata = frames[0].data[1]
    assert metadata["langgraph_node"] == "call_model"
    assert metadata["langgraph_step"] == 1
    assert {"thread_id", "run_id", "graph_id", "assistant_id", "run_attempt"} <= set(metadata)


async def test_messages_accumulate(talk: Talk) -> None:
    frames = await after_metadata(talk, "agent", input=QUESTION, stream_mode="messages")
    assert names(frames)[0] == "messages/metadata"
    assert set(names(frames)[1:]) == {"messages/partial"}
    (message_id,) = frames[0].data
    assert frames[0].data[message_id]["metadata"]["langgraph_node"] == "call_model"
    contents = [f.data[0]["content"] for f in frames[1:]]
    assert contents[0] == "tok0 "
    assert contents[-1] == TOKENS
    assert contents == sorted(contents, key=len)
    assert {f.data[0]["id"] for f in frames[1:]} == {message_id}
    assert {f.data[0]["type"] for f in frames[1:]} == {"ai"}


async def test_of_both_message_modes_the_tuples_win(talk: Talk) -> None:
    frames = await after_metadata(
        talk, "agent", input=QUESTION, stream_mode=["messages", "messages-tuple"]
    )
    assert {f.name for f in frames} == {"messages"}


async def test_events_are_those_of_astream_events(talk: Talk) -> None:
    frames = await after_metadata(talk, "agent", input=QUESTION, stream_mode="events")
    assert {f.name for f in frames} == {"events"}
    kinds = [f.data["event"] for f in frames]
    assert kinds[0] == "on_chain_start"
    assert kinds[-1] == "on_chain_end"
    assert kinds.count("on_chat_model_stream") >= 5
    assert {"event", "name", "run_id", "data", "tags", "metadata", "parent_ids"} <= set(
        frames[0].data
    )


async def test_events_come_along_with_other_modes(talk: Talk) -> None:
    frames = await after_metadata(talk, "counter", input=COUNT, stream_mode=["events", "values"])
    assert {f.name for f in frames} == {"events", "values"}
    assert [f.data["count"] for f in frames if f.name == "values"] == [0, 1, 2, 3]


async def test_subgraphs_are_named_in_the_event(talk: Talk) -> None:
    frames = await after_metadata(
        talk,
        "parent",
        input={"value": 1},
        stream_mode=["updates", "custom"],
        stream_subgraphs=True,
    )
    kinds = [f.name.partition("|") for f in frames]
    assert [(mode, bool(namespace)) for mode, _, namespace in kinds] == [
        ("updates", False),
        ("custom", True),
        ("updates", True),
        ("updates", True),
        ("updates", False),
    ]
    (namespace,) = {namespace for _, _, namespace in kinds if namespace}
    assert namespace.startswith("child:")
    assert frames[-1].data == {"child": {"value": 112, "messages": []}}


async def test_without_subgraphs_only_the_parent_speaks(talk: Talk) -> None:
    frames = await after_metadata(
        talk, "parent", input={"value": 1}, stream_mode=["updates", "values"]
    )
    assert names(frames) == ["values", "updates", "values", "updates", "values"]


async def test_values_of_subgraphs_are_their_own(talk: Talk) -> None:
    frames = await after_metadata(
        talk, "parent", input={"value": 1}, stream_mode="values", stream_subgraphs=True
    )
    assert [(f.name.partition(":")[0], f.data["value"]) for f in frames] == [
        ("values", 1),
        ("values", 2),
        ("values|child", 2),
        ("values|child", 12),
        ("values|child", 112),
        ("values", 112),
    ]


async def test_an_interrupt_shows_in_updates_and_values(talk: Talk) -> None:
    frames = await after_metadata(
        talk, "approval", input={"question": "go?"}, stream_mode=["updates", "values"]
    )
    interrupts = [f for f in frames if "__interrupt__" in f.data]
    assert sorted(f.name for f in interrupts) == ["updates", "values"]
    for frame in interrupts:
        (interrupt,) = frame.data["__interrupt__"]
        assert interrupt["value"] == {"question": "go?"}
        assert len(interrupt["id"]) == 32
    values = next(f for f in interrupts if f.name == "values")
    assert values.data["question"] == "go?"


@pytest.mark.parametrize("mode", ["custom", "messages-tuple"])
async def test_an_interrupt_shows_in_no_other_mode(talk: Talk, mode: str) -> None:
    assert await after_metadata(talk, "approval", input={"question": "?"}, stream_mode=mode) == []


@pytest.mark.parametrize(
    ("when", "updates"), [("interrupt_before", ["one"]), ("interrupt_after", ["one", "two"])]
)
async def test_a_breakpoint_shows_as_an_empty_interrupt_in_updates(
    talk: Talk, when: str, updates: list[str]
) -> None:
    frames = await after_metadata(
        talk, "counter", input=COUNT, stream_mode=["updates"], **{when: ["two"]}
    )
    assert [next(iter(f.data)) for f in frames] == [*updates, "__interrupt__"]
    assert frames[-1].data == {"__interrupt__": []}


async def test_parallel_interrupts_are_told_one_by_one(talk: Talk) -> None:
    frames = await after_metadata(talk, "multi", input={"path": []}, stream_mode="updates")
    told = [f.data["__interrupt__"] for f in frames if "__interrupt__" in f.data]
    assert [len(interrupts) for interrupts in told] == [1, 1]
    assert sorted(i[0]["value"] for i in told) == ["a?", "b?"]


async def test_an_unknown_mode_is_refused(talk: Talk, thread_id: str) -> None:
    answer = await talk.post(
        f"/threads/{thread_id}/runs/stream",
        {"assistant_id": "counter", "input": COUNT, "stream_mode": "bogus"},
    )
    assert answer.status_code == 422


async def test_feedback_keys_end_a_stream_with_an_address_for_each(talk: Talk) -> None:
    frames = await after_metadata(talk, "counter", input=COUNT, feedback_keys=["thumbs", "a b"])
    assert names(frames) == ["values"] * 4 + ["feedback"]
    addresses = frames[-1].data
    assert list(addresses) == ["thumbs", "a b"]
    # A link of a page, or what a page posts to: nothing else is needed.
    for address, said in ((addresses["thumbs"], {"score": 1}), (addresses["a b"], {"value": "x"})):
        assert (await talk.http.get(address, params=said)).status_code == 200
        assert (await talk.http.post(address, json=said)).status_code == 200
    run_id = addresses["thumbs"].rpartition("/runs/")[2].partition("/")[0]
    told = (await talk.get(f"/runs/{run_id}/feedback")).json()
    assert [(each["key"], each["score"], each["value"]) for each in told] == [
        *[("thumbs", 1, None)] * 2,
        *[("a b", None, "x")] * 2,
    ]


async def test_ten_megabytes_pass(talk: Talk) -> None:
    text = "x" * 10_000_000
    question = {"messages": [{"role": "user", "content": text}], "n_tokens": 1}
    thread_id = await talk.new_thread()
    frames = await talk.streamed(thread_id, "agent", input=question, stream_mode="values")
    assert names(frames) == ["metadata", "values", "values"]
    assert frames[-1].data["messages"][0]["content"] == text
    assert (await talk.state(thread_id))["values"]["messages"][0]["content"] == text
