"""States, history, interrupts, time travel and changes by hand (platform API, sections 4 and 5)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.talking import BRIEF, UNKNOWN, Talk, ok, refused, uuid

COUNT = {"count": 0}
STATE_KEYS = {
    *("values", "next", "tasks", "metadata", "created_at", "checkpoint", "parent_checkpoint"),
    *("interrupts", "checkpoint_id", "parent_checkpoint_id"),
}


async def counted(talk: Talk, thread_id: str) -> list[dict[str, Any]]:
    """The history after a run of the counter, oldest first."""
    await talk.wait(thread_id, "counter", input=COUNT)
    return (await talk.history(thread_id))[::-1]


async def test_the_state_of_a_thread_without_runs_is_empty(talk: Talk, thread_id: str) -> None:
    state = await talk.state(thread_id)
    assert (state["values"], state["next"], state["tasks"]) == ({}, [], [])
    assert state["metadata"] is state["created_at"] is state["checkpoint"] is None


async def test_a_state_says_where_it_is(talk: Talk, thread_id: str) -> None:
    await talk.wait(thread_id, "counter", input=COUNT)
    state = await talk.state(thread_id)
    assert set(state) >= STATE_KEYS
    assert state["values"] == {"count": 3, "log": ["one", "two", "three"]}
    assert state["next"] == []
    checkpoint = state["checkpoint"]
    assert checkpoint["thread_id"] == thread_id
    assert checkpoint["checkpoint_ns"] == ""
    assert checkpoint["checkpoint_id"] == state["checkpoint_id"]
    assert state["parent_checkpoint"]["checkpoint_id"] == state["parent_checkpoint_id"]
    assert state["metadata"]["step"] == 3
    assert state["metadata"]["source"] == "loop"
    assert state["metadata"]["graph_id"] == "counter"


async def test_the_state_of_an_unknown_thread_is_not_found(talk: Talk) -> None:
    refused(await talk.get(f"/threads/{uuid()}/state"), 404)
    refused(await talk.post(f"/threads/{uuid()}/state", {"values": {}}), 404)


@pytest.mark.parametrize("verb", ["get", "post"])
async def test_the_state_at_a_checkpoint(talk: Talk, thread_id: str, verb: str) -> None:
    states = await counted(talk, thread_id)
    checkpoint_id = states[2]["checkpoint_id"]
    if verb == "get":
        answer = await talk.get(f"/threads/{thread_id}/state/{checkpoint_id}")
    else:
        answer = await talk.post(
            f"/threads/{thread_id}/state/checkpoint",
            {"checkpoint": {"checkpoint_id": checkpoint_id, "checkpoint_ns": ""}},
        )
    state = ok(answer)
    assert state["values"] == {"count": 1, "log": ["one"]}
    assert state["next"] == ["two"]
    assert state["checkpoint_id"] == checkpoint_id


async def test_the_state_at_an_unknown_checkpoint_is_empty(talk: Talk, thread_id: str) -> None:
    await talk.wait(thread_id, "counter", input=COUNT)
    state = ok(await talk.get(f"/threads/{thread_id}/state/{UNKNOWN}"))
    assert (state["values"], state["next"]) == ({}, [])


async def test_history_is_newest_first_with_one_by_default(talk: Talk, thread_id: str) -> None:
    await talk.wait(thread_id, "counter", input=COUNT)
    history = await talk.history(thread_id)
    assert [state["metadata"]["step"] for state in history] == [3, 2, 1, 0, -1]
    assert [state["metadata"]["source"] for state in history] == [*["loop"] * 4, "input"]
    path = f"/threads/{thread_id}/history"
    assert ok(await talk.get(path)) == history[:1]
    assert ok(await talk.post(path, {})) == history[:1]
    assert ok(await talk.get(f"{path}?limit=3")) == history[:3]
    assert ok(await talk.post(path, {"limit": 3})) == history[:3]


async def test_history_before_a_checkpoint(talk: Talk, thread_id: str) -> None:
    await talk.wait(thread_id, "counter", input=COUNT)
    history = await talk.history(thread_id)
    before = {"configurable": {"checkpoint_id": history[1]["checkpoint_id"]}}
    path = f"/threads/{thread_id}/history"
    assert ok(await talk.post(path, {"limit": 9, "before": before})) == history[2:]


async def test_history_takes_a_bare_checkpoint_too(talk: Talk, thread_id: str) -> None:
    """As RemoteGraph sends it."""
    await talk.wait(thread_id, "counter", input=COUNT)
    history = await talk.history(thread_id)
    path = f"/threads/{thread_id}/history"
    found = ok(await talk.post(path, {"limit": 9, "before": history[1]["checkpoint"]}))
    assert found == history[2:]


async def test_history_by_metadata(talk: Talk, thread_id: str) -> None:
    await talk.wait(thread_id, "counter", input=COUNT)
    path = f"/threads/{thread_id}/history"
    found = ok(await talk.post(path, {"limit": 9, "metadata": {"source": "input"}}))
    assert [state["metadata"]["step"] for state in found] == [-1]


async def test_history_of_a_thread_without_runs_is_empty(talk: Talk, thread_id: str) -> None:
    assert await talk.history(thread_id) == []


async def test_a_state_can_be_changed_by_hand(talk: Talk, thread_id: str) -> None:
    await talk.wait(thread_id, "counter", input=COUNT)
    answer = ok(
        await talk.post(f"/threads/{thread_id}/state", {"values": {"count": 40, "log": ["me"]}})
    )
    state = await talk.state(thread_id)
    assert answer["checkpoint"]["checkpoint_id"] == state["checkpoint_id"]
    assert answer["checkpoint_id"] == state["checkpoint_id"]
    assert answer["configurable"]["thread_id"] == thread_id
    assert state["values"] == {"count": 40, "log": ["one", "two", "three", "me"]}
    assert state["metadata"]["source"] == "update"
    thread = await talk.thread(thread_id)
    assert (thread["values"]["count"], thread["status"]) == (40, "idle")


async def test_a_change_as_a_node_continues_behind_it(talk: Talk, thread_id: str) -> None:
    await talk.wait(thread_id, "counter", input=COUNT)
    body = {"values": {"count": 40}, "as_node": "one"}
    ok(await talk.post(f"/threads/{thread_id}/state", body))
    assert (await talk.state(thread_id))["next"] == ["two"]
    assert (await talk.thread(thread_id))["status"] == "interrupted"
    output = await talk.wait(thread_id, "counter", input=None)
    assert output["count"] == 42


async def test_a_change_at_a_checkpoint_is_a_fork(talk: Talk, thread_id: str) -> None:
    states = await counted(talk, thread_id)
    where = {"checkpoint": states[2]["checkpoint"], "values": {"count": 100}}
    ok(await talk.post(f"/threads/{thread_id}/state", where))
    state = await talk.state(thread_id)
    assert state["values"] == {"count": 100, "log": ["one"]}
    assert state["parent_checkpoint_id"] == states[2]["checkpoint_id"]
    output = await talk.wait(thread_id, "counter", input=None)
    assert output == {"count": 102, "log": ["one", "two", "three"]}


async def test_a_change_needs_a_graph(talk: Talk, thread_id: str) -> None:
    refused(await talk.post(f"/threads/{thread_id}/state", {"values": {"x": 1}}), 400)


async def test_a_change_as_an_unknown_node_is_refused(talk: Talk, thread_id: str) -> None:
    await talk.wait(thread_id, "counter", input=COUNT)
    body = {"values": {"count": 1}, "as_node": "bogus"}
    detail = refused(await talk.post(f"/threads/{thread_id}/state", body), 400)
    assert detail == "Node bogus does not exist"


async def test_values_that_the_graph_cannot_take_are_refused(talk: Talk, thread_id: str) -> None:
    await talk.wait(thread_id, "counter", input=COUNT)
    refused(await talk.post(f"/threads/{thread_id}/state", {"values": [1]}), 400, 422)


async def test_a_state_cannot_be_changed_under_a_run(talk: Talk, thread_id: str) -> None:
    await talk.running(thread_id)
    refused(await talk.post(f"/threads/{thread_id}/state", {"values": {"i": 7}}), 409)


# --- interrupts ------------------------------------------------------------------------------


async def test_an_interrupt_makes_a_success_and_an_interrupted_thread(
    talk: Talk, thread_id: str
) -> None:
    run_id = (await talk.create(thread_id, "approval", input={"question": "go?"}))["run_id"]
    await talk.join(thread_id, run_id)
    assert await talk.status(thread_id, run_id) == "success"
    thread = await talk.thread(thread_id)
    assert thread["status"] == "interrupted"
    ((interrupt,),) = thread["interrupts"].values()
    assert set(interrupt) == {"id", "value"}
    assert interrupt["value"] == {"question": "go?"}
    state = await talk.state(thread_id)
    assert state["next"] == ["ask"]
    (task,) = state["tasks"]
    assert (task["name"], task["interrupts"][0]["value"]) == ("ask", {"question": "go?"})
    assert state["interrupts"][0]["id"] == interrupt["id"]
    assert list(thread["interrupts"]) == [task["id"]]


@pytest.mark.parametrize("value", ["yes", {"deep": [1]}, False, 0, ""])
async def test_any_value_resumes(talk: Talk, thread_id: str, value: Any) -> None:
    await talk.wait(thread_id, "approval", input={"question": "?"})
    output = await talk.wait(thread_id, "approval", command={"resume": value})
    assert output == {"question": "?", "answer": value, "done": True}
    thread = await talk.thread(thread_id)
    assert (thread["status"], thread["interrupts"]) == ("idle", {})


async def test_several_interrupts_are_resumed_by_their_ids(talk: Talk, thread_id: str) -> None:
    output = await talk.wait(thread_id, "multi", input={"path": []})
    ids = {interrupt["value"]: interrupt["id"] for interrupt in output["__interrupt__"]}
    assert set(ids) == {"a?", "b?"}
    still = await talk.wait(thread_id, "multi", command={"resume": {ids["a?"]: "A"}})
    assert [interrupt["value"] for interrupt in still["__interrupt__"]] == ["b?"]
    done = await talk.wait(thread_id, "multi", command={"resume": {ids["b?"]: "B"}})
    assert (done["a"], done["b"]) == ("A", "B")
    assert (await talk.thread(thread_id))["status"] == "idle"


async def test_one_value_for_two_interrupts_fails_in_the_run(talk: Talk, thread_id: str) -> None:
    await talk.wait(thread_id, "multi", input={"path": []})
    output = await talk.wait(thread_id, "multi", command={"resume": "both"})
    assert output["__error__"]["error"] == "RuntimeError"


async def test_a_resume_that_nothing_waits_for_asks_the_question(
    talk: Talk, thread_id: str
) -> None:
    output = await talk.wait(thread_id, "approval", command={"resume": "yes"})
    assert [interrupt["value"] for interrupt in output["__interrupt__"]] == [{"question": "ok?"}]


@pytest.mark.parametrize("when", ["interrupt_before", "interrupt_after"])
async def test_a_breakpoint_stops_and_null_continues(talk: Talk, thread_id: str, when: str) -> None:
    output = await talk.wait(thread_id, "counter", input=COUNT, **{when: ["two"]})
    done = 1 if when == "interrupt_before" else 2
    assert output["count"] == done
    thread = await talk.thread(thread_id)
    assert (thread["status"], thread["interrupts"]) == ("interrupted", {})
    (run,) = ok(await talk.get(f"/threads/{thread_id}/runs"))
    assert run["status"] == "success"
    assert (await talk.wait(thread_id, "counter", input=None))["count"] == 3
    assert (await talk.thread(thread_id))["status"] == "idle"


async def test_a_breakpoint_everywhere_goes_step_by_step(talk: Talk, thread_id: str) -> None:
    counts = [(await talk.wait(thread_id, "counter", input=COUNT, interrupt_after="*"))["count"]]
    for _ in range(2):
        output = await talk.wait(thread_id, "counter", input=None, interrupt_after="*")
        counts.append(output["count"])
    assert counts == [1, 2, 3]


async def test_a_breakpoint_at_an_unknown_node_does_nothing(talk: Talk, thread_id: str) -> None:
    output = await talk.wait(thread_id, "counter", input=COUNT, interrupt_before=["bogus"])
    assert output["count"] == 3


async def test_a_rolled_back_resume_can_be_answered_otherwise(talk: Talk, thread_id: str) -> None:
    """The answer of the run that was rolled back must not come back."""
    await talk.wait(thread_id, "hesitant", input={"seconds": 30})
    before = await talk.state(thread_id)
    async with talk.streaming(
        thread_id, "hesitant", command={"resume": "YES"}, stream_mode="values"
    ) as stream:
        await stream.until("values", lambda data: data.get("answer") == "YES")
        run_id = stream.heard[0].data["run_id"]
        ok(await talk.cancel(thread_id, run_id, action="rollback", wait=1))
    thread = await talk.settled(thread_id)
    assert thread["status"] == "interrupted"
    assert "answer" not in thread["values"]
    after = await talk.state(thread_id)
    assert after["checkpoint_id"] == before["checkpoint_id"]
    assert [i["value"] for i in after["interrupts"]] == ["sure?"]
    ok(await talk.post(f"/threads/{thread_id}/state", {"values": {"seconds": 0}, "as_node": "ask"}))
    assert (await talk.wait(thread_id, "hesitant", input=None)).get("answer") is None


async def test_after_a_rolled_back_yes_a_no_is_a_no(talk: Talk, thread_id: str) -> None:
    await talk.wait(thread_id, "hesitant", input={"seconds": 1})
    async with talk.streaming(
        thread_id, "hesitant", command={"resume": "YES"}, stream_mode="values"
    ) as stream:
        await stream.until("values", lambda data: data.get("answer") == "YES")
        run_id = stream.heard[0].data["run_id"]
        ok(await talk.cancel(thread_id, run_id, action="rollback", wait=1))
    await talk.settled(thread_id)
    done = await talk.wait(thread_id, "hesitant", command={"resume": "NO"})
    assert done == {"seconds": 1, "answer": "NO", "done": True}


# --- commands --------------------------------------------------------------------------------


async def test_a_command_updates_and_goes_to_a_node(talk: Talk, thread_id: str) -> None:
    await talk.wait(thread_id, "counter", input=COUNT)
    output = await talk.wait(
        thread_id, "counter", command={"update": {"count": 40, "log": ["me"]}, "goto": "three"}
    )
    assert output == {"count": 41, "log": ["one", "two", "three", "me", "three"]}


@pytest.mark.parametrize(
    "goto",
    ["three", ["three"], {"node": "three", "input": {}}, [{"node": "three", "input": {}}]],
)
async def test_a_command_goes_to_nodes_in_every_form(talk: Talk, thread_id: str, goto: Any) -> None:
    await talk.wait(thread_id, "counter", input=COUNT)
    output = await talk.wait(thread_id, "counter", command={"goto": goto})
    assert output["log"] == ["one", "two", "three", "three"]


async def test_an_update_may_be_a_list_of_pairs(talk: Talk, thread_id: str) -> None:
    await talk.wait(thread_id, "counter", input=COUNT)
    await talk.wait(thread_id, "counter", command={"update": [["count", 50]], "goto": "three"})
    assert (await talk.thread(thread_id))["values"]["count"] == 51


# --- time travel -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["checkpoint_id", "checkpoint", "config"])
async def test_a_run_from_a_checkpoint_forks(talk: Talk, thread_id: str, form: str) -> None:
    states = await counted(talk, thread_id)
    at = states[2]
    body: dict[str, Any] = {
        "checkpoint_id": {"checkpoint_id": at["checkpoint_id"]},
        "checkpoint": {"checkpoint": at["checkpoint"]},
        "config": {"config": {"configurable": {"checkpoint_id": at["checkpoint_id"]}}},
    }[form]
    output = await talk.wait(thread_id, "counter", input=None, **body)
    assert output == {"count": 3, "log": ["one", "two", "three"]}
    history = await talk.history(thread_id)
    assert len(history) == 8
    fork = history[2]
    assert fork["metadata"]["source"] == "fork"
    assert fork["parent_checkpoint_id"] == at["checkpoint_id"]


async def test_an_input_at_a_checkpoint_begins_another_branch(talk: Talk, thread_id: str) -> None:
    states = await counted(talk, thread_id)
    output = await talk.wait(
        thread_id, "counter", input={"count": 100}, checkpoint_id=states[2]["checkpoint_id"]
    )
    assert output == {"count": 103, "log": ["one", "one", "two", "three"]}
    assert (await talk.thread(thread_id))["values"] == output
    assert (await talk.state(thread_id))["values"] == output


async def test_an_unknown_checkpoint_is_an_empty_thread(talk: Talk, thread_id: str) -> None:
    await talk.wait(thread_id, "counter", input=COUNT)
    output = await talk.wait(thread_id, "counter", input=None, checkpoint_id=UNKNOWN)
    assert output["__error__"]["error"] == "EmptyInputError"


async def test_an_answered_interrupt_keeps_its_answer_in_a_fork(talk: Talk, thread_id: str) -> None:
    await talk.wait(thread_id, "approval", input={"question": "?"})
    asked = (await talk.state(thread_id))["checkpoint"]
    await talk.wait(thread_id, "approval", command={"resume": "first"})
    output = await talk.wait(thread_id, "approval", command={"resume": "second"}, checkpoint=asked)
    assert output["answer"] == "first"


# --- subgraphs -------------------------------------------------------------------------------


async def test_the_state_of_a_subgraph_in_mid_air(talk: Talk, thread_id: str) -> None:
    await talk.wait(
        thread_id, "parent", input={"value": 1}, interrupt_before=["child"], stream_subgraphs=True
    )
    state = ok(await talk.get(f"/threads/{thread_id}/state?subgraphs=true"))
    assert state["next"] == ["child"]
    assert state["tasks"][0]["name"] == "child"


async def test_a_state_may_be_of_some_fields(talk: Talk, thread_id: str) -> None:
    await talk.wait(thread_id, "slow", input={**BRIEF, "steps": 1})
    state = ok(await talk.get(f"/threads/{thread_id}/state?select=values&select=next"))
    assert set(state) == {"values", "next"}
