"""Questions about threads and graphs, answered in the shapes of the reference."""

from __future__ import annotations

import asyncio
import json
from contextlib import nullcontext
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from greenroom.core.errors import BadRequest, Fenced, InvalidRequest
from greenroom.core.ports import (
    DrawQuestion,
    HistoryQuestion,
    SchemasQuestion,
    StateQuestion,
    StateUpdate,
    SubgraphsQuestion,
    SuperstepsUpdate,
    Updated,
)
from greenroom.graphs import state
from tests.graphs.graph_driver import order, probe, run

UNKNOWN = "ffa1756b-8293-43fb-9442-cd9394149e97"


class Thread:
    """A thread of a probe graph, and everything that can be asked about it."""

    def __init__(self, graph_id: str, thread_id: str = "t") -> None:
        self.saver = InMemorySaver()
        self.loaded = probe(graph_id)
        self.of: Any = {"graph_id": graph_id, "thread_id": thread_id}

    async def run(self, **kwargs: Any) -> Any:
        todo = order(self.of["graph_id"], thread_id=self.of["thread_id"], **kwargs)
        return await run(self.loaded, todo, self.saver)

    async def ask(self, question: Any) -> Any:
        return json.loads(
            await state.answer(self.loaded, question, checkpointer=self.saver, store=None)
        )

    async def state(self, **kwargs: Any) -> Any:
        return await self.ask(StateQuestion(**self.of, **kwargs))

    async def history(self, **kwargs: Any) -> Any:
        return await self.ask(HistoryQuestion(**self.of, **{"limit": 10, **kwargs}))

    async def update(self, values: Any, **kwargs: Any) -> Updated:
        update = StateUpdate(**self.of, values=json.dumps(values).encode(), **kwargs)
        return await state.update(self.loaded, update, checkpointer=self.saver, store=None)


# --- updates that are asked for again -------------------------------------------------------------


class DiesAfter(InMemorySaver):
    """Its process dies when it has written so many checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.writes_left: int | None = None

    async def aput(self, *args: Any, **kwargs: Any) -> Any:
        if self.writes_left == 0:
            raise RuntimeError("died")
        put = await super().aput(*args, **kwargs)
        if self.writes_left is not None:
            self.writes_left -= 1
        return put


async def test_an_update_that_is_asked_for_again_is_applied_once() -> None:
    """B4: its values were added again for every time that its answer was lost."""
    thread = Thread("counter")
    await thread.run(input={"count": 1})
    first = await thread.update({"log": ["x"]}, as_node="one", update_id="u1")
    again = await thread.update({"log": ["x"]}, as_node="one", update_id="u1")
    assert again == first
    assert (await thread.state())["values"]["log"] == ["one", "two", "three", "x"]
    another = await thread.update({"log": ["x"]}, as_node="one", update_id="u2")
    assert another != first
    assert (await thread.state())["values"]["log"] == ["one", "two", "three", "x", "x"]


async def test_an_update_is_found_again_behind_what_was_written_after_it() -> None:
    thread = Thread("counter")
    await thread.run(input={"count": 1})
    first = await thread.update({"log": ["x"]}, as_node="three", update_id="u1")
    await thread.update({"log": ["y"]}, as_node="three", update_id="u2")
    again = await thread.update({"log": ["x"]}, as_node="three", update_id="u1")
    assert json.loads(again.answer) == json.loads(first.answer)
    assert (await thread.state())["values"]["log"] == ["one", "two", "three", "x", "y"]


async def test_the_same_update_under_way_twice_is_applied_once() -> None:
    thread = Thread("counter")
    await thread.run(input={"count": 1})
    updates = [thread.update({"log": ["x"]}, as_node="one", update_id="u1") for _ in range(3)]
    first, *others = await asyncio.gather(*updates)
    assert others == [first, first]
    assert (await thread.state())["values"]["log"] == ["one", "two", "three", "x"]


@pytest.mark.parametrize("written", [0, 1, 2, 3])
async def test_supersteps_go_on_where_their_process_died(written: int) -> None:
    thread = Thread("counter")
    saver = thread.saver = DiesAfter()
    steps = [
        {"updates": [{"values": {"log": [word]}, "as_node": node}]}
        for node, word in (("one", "x"), ("two", "y"), ("three", "z"))
    ]
    asked = SuperstepsUpdate(**thread.of, supersteps=json.dumps(steps).encode(), update_id="u1")
    saver.writes_left = written
    with pytest.raises(RuntimeError, match="died") if written < 3 else nullcontext():
        await state.update(thread.loaded, asked, checkpointer=saver, store=None)
    saver.writes_left = None
    await state.update(thread.loaded, asked, checkpointer=saver, store=None)
    assert (await thread.state())["values"]["log"] == ["x", "y", "z"]
    assert len(await thread.history()) == 3


async def test_the_id_of_an_update_is_not_shown() -> None:
    thread = Thread("counter")
    await thread.run(input={"count": 1})
    await thread.update({"log": ["x"]}, as_node="one", update_id="secret")
    assert "secret" not in json.dumps([await thread.state(), await thread.history()])
    await thread.run(input={"count": 1})
    assert "secret" not in json.dumps(await thread.history())


async def test_a_thread_that_never_ran_has_an_empty_state_and_no_history() -> None:
    thread = Thread("counter")
    assert await thread.state() == {
        "values": {},
        "next": [],
        "tasks": [],
        "metadata": None,
        "created_at": None,
        "checkpoint": None,
        "parent_checkpoint": None,
        "interrupts": [],
        "checkpoint_id": None,
        "parent_checkpoint_id": None,
    }
    assert await thread.history() == []


async def test_a_state_names_its_checkpoint_and_its_parent_twice() -> None:
    thread = Thread("counter")
    await thread.run(input={"count": 1})
    found = await thread.state()
    newest, before, *_ = await thread.history()
    assert found == newest
    assert list(found) == [
        "values",
        "next",
        "tasks",
        "metadata",
        "created_at",
        "checkpoint",
        "parent_checkpoint",
        "interrupts",
        "checkpoint_id",
        "parent_checkpoint_id",
    ]
    assert found["values"] == {"count": 4, "log": ["one", "two", "three"]}
    assert found["checkpoint"] == {
        "checkpoint_id": found["checkpoint_id"],
        "thread_id": "t",
        "checkpoint_ns": "",
    }
    assert found["parent_checkpoint"] == before["checkpoint"]
    assert found["parent_checkpoint_id"] == before["checkpoint_id"]
    assert before["tasks"] == [
        {
            "id": before["tasks"][0]["id"],
            "name": "three",
            "path": ["__pregel_pull", "three"],
            "error": None,
            "interrupts": [],
            "checkpoint": None,
            "state": None,
            "result": {"count": 4, "log": ["three"]},
        }
    ]


async def test_a_history_that_is_too_large_for_one_answer_says_how_much_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    thread = Thread("counter")
    await thread.run(input={"count": 0, "log": ["x" * 500_000]})
    monkeypatch.setattr(state, "HISTORY_MAX_BYTES", state.MIB)
    with pytest.raises(BadRequest, match=r"3 states .* more than 1 MiB.*limit=2 at once"):
        await thread.history()
    first = await thread.history(limit=2)
    rest = await thread.history(limit=1, before={"checkpoint_id": first[-1]["checkpoint_id"]})
    assert len(rest) == 1
    monkeypatch.setattr(state, "HISTORY_MAX_BYTES", 1)
    assert len(await thread.history(limit=1)) == 1


async def test_history_can_be_limited_continued_and_filtered() -> None:
    thread = Thread("counter")
    await thread.run(input={"count": 1})
    assert [s["metadata"]["step"] for s in await thread.history()] == [3, 2, 1, 0, -1]
    [newest, second] = await thread.history(limit=2)
    [after] = await thread.history(limit=1, before={"checkpoint_id": newest["checkpoint_id"]})
    assert after == second
    [filtered] = await thread.history(metadata={"step": 0})
    assert filtered["next"] == ["one"]


async def test_a_state_of_the_past_is_found_by_its_checkpoint() -> None:
    thread = Thread("counter")
    await thread.run(input={"count": 1})
    past = (await thread.history())[2]
    found = await thread.state(checkpoint=past["checkpoint"])
    assert (found["values"], found["next"]) == ({"count": 2, "log": ["one"]}, ["two"])
    by_id = await thread.state(checkpoint={"checkpoint_id": past["checkpoint_id"]})
    assert by_id["values"] == found["values"]


async def test_an_unknown_checkpoint_is_empty_and_no_error() -> None:
    thread = Thread("counter")
    await thread.run(input={"count": 1})
    found = await thread.state(checkpoint={"checkpoint_id": UNKNOWN})
    assert (found["values"], found["next"], found["metadata"]) == ({}, [], None)
    assert found["checkpoint"] == {"checkpoint_id": UNKNOWN, "thread_id": "t"}
    assert found["checkpoint_id"] == UNKNOWN


async def test_an_interrupt_is_in_the_state_and_in_its_task() -> None:
    thread = Thread("approval")
    await thread.run(input={"question": "go?"})
    found = await thread.state()
    [interrupt] = found["interrupts"]
    assert interrupt == {"id": interrupt["id"], "value": {"question": "go?"}}
    assert found["tasks"][0]["interrupts"] == [interrupt]
    assert found["next"] == ["ask"]


async def test_an_error_is_in_its_task_as_its_repr() -> None:
    thread = Thread("fails")
    await thread.run(input={"x": 0})
    [task] = (await thread.state())["tasks"]
    assert task["error"] == "ValueError('boom: x=1')"


async def test_a_subgraphs_state_is_a_checkpoint_until_it_is_asked_for() -> None:
    thread = Thread("parent")
    await thread.run(input={"value": 0}, interrupt_before=["child"])
    [task] = (await thread.state())["tasks"]
    assert task["state"] is None
    assert task["checkpoint"] == {"thread_id": "t", "checkpoint_ns": f"child:{task['id']}"}
    [task] = (await thread.state(subgraphs=True))["tasks"]
    assert task["checkpoint"] is None
    assert task["state"]["values"] == {}


async def test_an_update_says_where_it_went_and_what_the_thread_looks_like() -> None:
    thread = Thread("counter")
    await thread.run(input={"count": 1})
    updated = await thread.update({"count": 200}, as_node="one")
    answer = json.loads(updated.answer)
    assert answer == {
        "checkpoint": answer["checkpoint"],
        "configurable": answer["checkpoint"],
        "checkpoint_id": answer["checkpoint"]["checkpoint_id"],
    }
    assert list(answer["checkpoint"]) == ["thread_id", "checkpoint_ns", "checkpoint_id"]
    assert json.loads(updated.values or b"") == {"count": 200, "log": ["one", "two", "three"]}
    assert (updated.has_next, updated.interrupts) == (True, b"{}")
    found = await thread.state()
    assert (found["next"], found["checkpoint_id"]) == (["two"], answer["checkpoint_id"])
    assert found["metadata"]["source"] == "update"


async def test_an_update_may_fork_the_past() -> None:
    thread = Thread("counter")
    await thread.run(input={"count": 0})
    past = (await thread.history())[2]["checkpoint"]
    updated = await thread.update({"count": 8}, as_node="two", checkpoint=past)
    assert json.loads(updated.values or b"") == {"count": 8, "log": ["one"]}
    assert (await thread.state())["next"] == ["three"]


@pytest.mark.parametrize(
    ("values", "kwargs", "sentence"),
    [
        ({"count": 1}, {"as_node": "bogus"}, "Node bogus does not exist"),
        ([{"count": 8}], {}, r"Expected dict, got \[\{'count': 8\}\]"),
        ({"log": 1}, {"as_node": "one"}, "list"),
    ],
)
async def test_what_the_graph_refuses_is_said_in_its_words(
    values: Any, kwargs: Any, sentence: str
) -> None:
    thread = Thread("counter")
    await thread.run(input={"count": 1})
    with pytest.raises(BadRequest, match=sentence):
        await thread.update(values, **kwargs)


async def test_what_the_database_refuses_is_not_blamed_on_the_client() -> None:
    class Refusing(InMemorySaver):
        async def aput(self, *args: Any, **kwargs: Any) -> Any:
            raise Fenced("no longer")

    thread = Thread("counter")
    thread.saver = Refusing()
    with pytest.raises(Fenced):
        await thread.update({"count": 1}, as_node="one")


async def test_supersteps_are_applied_in_order() -> None:
    thread = Thread("counter")
    supersteps = [
        {"updates": [{"values": {"count": 5, "log": ["seed"]}, "as_node": "__start__"}]},
        {"updates": [{"command": {"update": {"count": 6, "log": ["x"]}}, "as_node": "one"}]},
    ]
    update = SuperstepsUpdate(**thread.of, supersteps=json.dumps(supersteps).encode())
    updated = await state.update(thread.loaded, update, checkpointer=thread.saver, store=None)
    assert json.loads(updated.values or b"") == {"count": 6, "log": ["seed", "x"]}
    assert (await thread.state())["next"] == ["two"]


@pytest.mark.parametrize(
    ("supersteps", "error"),
    [
        (b"[1]", InvalidRequest),
        (b'[{"updates":[]}]', BadRequest),
        (b"[]", BadRequest),
        (b"{", InvalidRequest),
    ],
)
async def test_supersteps_without_meaning_are_refused(supersteps: bytes, error: Any) -> None:
    thread = Thread("counter")
    update = SuperstepsUpdate(**thread.of, supersteps=supersteps)
    with pytest.raises(error):
        await state.update(thread.loaded, update, checkpointer=thread.saver, store=None)


PSTATE = {
    "properties": {
        "value": {"title": "Value", "type": "integer"},
        "messages": {"items": {}, "title": "Messages", "type": "array"},
    },
    "title": "PState",
    "type": "object",
}


def state_schema(title: str) -> dict[str, Any]:
    properties: dict[str, Any] = PSTATE["properties"]  # pyright: ignore
    return {
        "properties": {key: {"default": None, **value} for key, value in properties.items()},
        "title": title,
        "type": "object",
    }


async def test_schemas_are_those_of_the_reference() -> None:
    assert await Thread("parent").ask(SchemasQuestion(graph_id="parent")) == {
        "graph_id": "parent",
        "input_schema": PSTATE,
        "output_schema": PSTATE,
        "state_schema": state_schema("parent_state"),
        "config_schema": {},
        "context_schema": None,
    }
    context = {
        "properties": {
            "user": {"title": "User", "type": "string"},
            "n": {"title": "N", "type": "integer"},
        },
        "title": "Ctx",
        "type": "object",
    }
    found = await Thread("ctx").ask(SchemasQuestion(graph_id="ctx"))
    assert (found["config_schema"], found["context_schema"]) == (context, context)


@pytest.mark.parametrize(
    ("namespace", "names"), [(None, ["child"]), ("child", ["child"]), ("x", [])]
)
async def test_subgraphs_are_listed_by_name_with_their_schemas(
    namespace: str | None, names: list[str]
) -> None:
    question = SubgraphsQuestion(graph_id="parent", namespace=namespace, recurse=True)
    found = await Thread("parent").ask(question)
    assert list(found) == names
    for schemas in found.values():
        assert schemas["state_schema"] == state_schema("LangGraphState")


async def test_a_drawing_has_nodes_and_edges_and_looks_into_subgraphs_when_asked() -> None:
    thread = Thread("parent")
    assert await thread.ask(DrawQuestion(graph_id="parent")) == {
        "nodes": [
            {"id": "__start__", "type": "runnable", "data": {"name": "__start__"}},
            {"id": "pre", "type": "runnable", "data": {"name": "pre"}},
            {"id": "child", "type": "runnable", "data": {"name": "child"}},
            {"id": "__end__"},
        ],
        "edges": [
            {"source": "__start__", "target": "pre"},
            {"source": "pre", "target": "child"},
            {"source": "child", "target": "__end__"},
        ],
    }
    deep = await thread.ask(DrawQuestion(graph_id="parent", xray=1))
    assert "child:child_a" in [node["id"] for node in deep["nodes"]]
