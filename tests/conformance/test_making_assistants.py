"""Assistants that clients make: versions, what a run takes of them, and their end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.conformance.talking import UNKNOWN, Talk, ok, refused
from tests.conformance.test_assistants import id_of

Make = Callable[..., Awaitable[dict[str, Any]]]
SHOWN = {"assistant_id", "graph_id", "config", "context", "metadata", "name", "created_at"} | {
    "updated_at",
    "version",
    "description",
}


@pytest.fixture
async def make(talk: Talk) -> AsyncIterator[Make]:
    """Makes assistants that are gone afterwards: other scenarios count what there is."""
    made: list[str] = []

    async def assistant(graph_id: str = "seen", **body: Any) -> dict[str, Any]:
        found = ok(await talk.post("/assistants", {"graph_id": graph_id, **body}))
        made.append(found["assistant_id"])
        return found

    yield assistant
    for assistant_id in made:
        await talk.delete(f"/assistants/{assistant_id}")


async def patched(talk: Talk, assistant: dict[str, Any], **body: Any) -> dict[str, Any]:
    return ok(await talk.patch(f"/assistants/{assistant['assistant_id']}", body))


async def seen(talk: Talk, assistant: dict[str, Any], **body: Any) -> dict[str, Any]:
    """What a node of a stateless run sees."""
    return (await talk.wait(None, assistant["assistant_id"], input={}, **body))["out"]


# --- records -------------------------------------------------------------------------------------


async def test_an_assistant_is_made_with_defaults(talk: Talk, make: Make) -> None:
    assistant = await make()
    assert set(assistant) == SHOWN
    assert (assistant["name"], assistant["version"]) == ("Untitled", 1)
    assert (assistant["config"], assistant["context"], assistant["metadata"]) == ({}, {}, {})
    assert assistant["description"] is None
    assert ok(await talk.get(f"/assistants/{assistant['assistant_id']}")) == assistant


@pytest.mark.parametrize(
    "given", [{"context": {"model": "m"}}, {"config": {"configurable": {"model": "m"}}}], ids=str
)
async def test_an_assistants_context_and_configurable_mirror_each_other(
    make: Make, given: dict[str, Any]
) -> None:
    assistant = await make(**given)
    assert assistant["context"] == {"model": "m"}
    assert assistant["config"] == {"configurable": {"model": "m"}}


async def test_an_assistant_with_both_is_refused(talk: Talk, make: Make) -> None:
    both = {"config": {"configurable": {"model": "m"}}, "context": {"model": "n"}}
    said = refused(await talk.post("/assistants", {"graph_id": "seen", **both}), 400)
    assert said.startswith("Cannot specify both configurable and context")
    path = f"/assistants/{(await make())['assistant_id']}"
    assert refused(await talk.patch(path, both), 400) == said


async def test_an_id_is_taken_once(talk: Talk, make: Make) -> None:
    assistant = await make(assistant_id="11111111-2222-4333-8444-555555555555", name="a")
    body = {"graph_id": "seen", "assistant_id": assistant["assistant_id"], "name": "b"}
    said = refused(await talk.post("/assistants", body), 409)
    assert said == f"Assistant {assistant['assistant_id']} already exists"
    assert ok(await talk.post("/assistants", {**body, "if_exists": "do_nothing"})) == assistant


async def test_an_unknown_graph_has_no_assistants(talk: Talk, make: Make) -> None:
    said = refused(await talk.post("/assistants", {"graph_id": "nope"}), 404)
    assert said.startswith("Graph 'nope' not found. Expected one of: ['agent', ")
    path = f"/assistants/{(await make())['assistant_id']}"
    assert refused(await talk.patch(path, {"graph_id": "nope"}), 404) == said


@pytest.mark.parametrize(
    "wrong",
    [{"graph_id": 5}, {"name": 5}, {"context": "c"}, {"config": {"recursion_limit": "x"}}],
    ids=str,
)
async def test_a_wrong_field_of_an_assistant_is_refused(
    talk: Talk, make: Make, wrong: dict[str, Any]
) -> None:
    refused(await talk.post("/assistants", {"graph_id": "seen", **wrong}), 422)
    path = f"/assistants/{(await make())['assistant_id']}"
    refused(await talk.patch(path, wrong), 422)


async def test_what_names_no_assistant_is_refused(talk: Talk) -> None:
    path, missing = f"/assistants/{UNKNOWN}", f"Assistant {UNKNOWN} not found"
    assert refused(await talk.patch(path, {"name": "x"}), 404) == missing
    assert refused(await talk.post(f"{path}/versions", {}), 404) == missing
    said = refused(await talk.delete(path), 404)
    assert said == f"Assistant with ID {UNKNOWN} not found"
    for answer in (await talk.patch("/assistants/x", {}), await talk.delete("/assistants/x")):
        assert refused(answer, 422) == "Invalid assistant ID: must be a UUID"


async def test_made_assistants_are_searched(talk: Talk, make: Make) -> None:
    for number, name in enumerate(["Beta_y", "alpha", "gamma_x", "Alpha 2"]):
        await make(name=name, metadata={"here": {"n": number}})

    async def found(**where: Any) -> list[str]:
        body = {"graph_id": "seen", "sort_by": "name", "sort_order": "asc", **where}
        whole = [a["name"] for a in ok(await talk.post("/assistants/search", body))]
        counted = {k: v for k, v in where.items() if k in ("name", "metadata")}
        if len(counted) == len(where):
            count = {"graph_id": "seen", **counted}
            assert ok(await talk.post("/assistants/count", count)) == len(whole)
        return whole

    assert await found() == ["alpha", "Alpha 2", "Beta_y", "gamma_x", "seen"]
    assert await found(sort_order="desc", limit=2) == ["seen", "gamma_x"]
    assert await found(name="ALPHA") == ["alpha", "Alpha 2"]
    assert await found(name="_") == ["Beta_y", "gamma_x"]
    assert await found(name="%") == []
    assert await found(metadata={"here": {"n": 1}}) == ["alpha"]
    assert await found(offset=3) == ["gamma_x", "seen"]
    answer = await talk.post("/assistants/search", {"graph_id": "seen", "select": ["name"]})
    assert all(list(each) == ["name"] for each in ok(answer))


# --- versions ------------------------------------------------------------------------------------


async def test_every_patch_is_a_version(talk: Talk, make: Make) -> None:
    assistant = await make(name="one", metadata={"a": 1, "deep": {"x": 1}})
    changed = await patched(talk, assistant, metadata={"b": 2, "deep": {"y": 2}})
    assert changed["metadata"] == {"a": 1, "b": 2, "deep": {"y": 2}}
    assert changed["created_at"] == assistant["created_at"] < changed["updated_at"]
    changed = await patched(talk, assistant, name="three", description="d", graph_id="bound")
    assert (changed["name"], changed["description"]) == ("three", "d")
    assert (await patched(talk, assistant))["version"] == 4
    path = f"/assistants/{assistant['assistant_id']}/versions"
    versions = ok(await talk.post(path, {}))
    assert [each["version"] for each in versions] == [4, 3, 2, 1]
    assert set(versions[0]) == SHOWN - {"updated_at"}
    assert (versions[0]["graph_id"], versions[-1]["name"]) == ("bound", "one")
    assert [v["version"] for v in ok(await talk.post(path, {"limit": 2, "offset": 1}))] == [3, 2]
    where = {"metadata": {"deep": {"x": 1}}}
    assert [v["version"] for v in ok(await talk.post(path, where))] == [1]
    refused(await talk.post(path, {"limit": 0}), 422)


async def test_a_config_is_replaced_whole(talk: Talk, make: Make) -> None:
    assistant = await make(config={"tags": ["t"], "configurable": {"model": "a", "temp": 1}})
    changed = await patched(talk, assistant, config={"configurable": {"model": "b"}})
    assert changed["config"] == {"configurable": {"model": "b"}}
    assert changed["context"] == {"model": "b"}
    changed = await patched(talk, assistant, config={})
    assert changed["config"] == {"configurable": {"model": "b"}}
    changed = await patched(talk, assistant, context={"temp": 2})
    assert changed["config"] == {"configurable": {"temp": 2}}
    assert changed["context"] == {"temp": 2}


async def test_config_and_context_never_disagree(talk: Talk, make: Make) -> None:
    assistant = await make(context={"model": "a"})
    changed = await patched(talk, assistant, config={"recursion_limit": 7})
    assert changed["config"] == {"recursion_limit": 7, "configurable": {"model": "a"}}
    assert changed["context"] == {"model": "a"}
    changed = await patched(talk, assistant, context={})
    assert (changed["config"], changed["context"]) == ({"recursion_limit": 7}, {})


async def test_an_earlier_version_is_shown_again(talk: Talk, make: Make) -> None:
    assistant = await make(name="one", description="d", metadata={"a": 1})
    await patched(talk, assistant, name="two", description="e", metadata={"b": 2})
    path = f"/assistants/{assistant['assistant_id']}/latest"
    shown = ok(await talk.post(path, {"version": 1}))
    assert {**shown, "updated_at": None} == {**assistant, "updated_at": None}
    changed = await patched(talk, assistant, metadata={"c": 3})
    assert (changed["version"], changed["name"], changed["metadata"]) == (
        3,
        "one",
        {"a": 1, "c": 3},
    )
    said = refused(await talk.post(path, {"version": 9}), 404)
    assert said == f"Version 9 not found for assistant {assistant['assistant_id']}"
    refused(await talk.post(path, {}), 404)
    refused(await talk.post(path, {"version": "1"}), 422)


async def test_an_earlier_version_has_its_graph_and_context_too(talk: Talk, make: Make) -> None:
    assistant = await make(context={"model": "one"})
    await patched(talk, assistant, graph_id="bound", context={"model": "two"})
    path = f"/assistants/{assistant['assistant_id']}/latest"
    shown = ok(await talk.post(path, {"version": 1}))
    assert (shown["graph_id"], shown["context"]) == ("seen", {"model": "one"})
    assert (await seen(talk, assistant))["context"] == {"model": "one"}


async def test_keys_of_a_run_are_no_part_of_an_assistant(make: Make) -> None:
    given = {"thread_id": UNKNOWN, "checkpoint_id": UNKNOWN, "langgraph_auth_user_id": "x", "a": 1}
    assistant = await make(config={"configurable": given})
    assert assistant["context"] == {"a": 1}
    assert assistant["config"] == {"configurable": {"a": 1}}


# --- runs ----------------------------------------------------------------------------------------


async def test_a_graph_without_anything_has_no_context(talk: Talk, make: Make) -> None:
    assert (await seen(talk, await make()))["context"] is None
    assert (await seen(talk, await make("bound")))["context"] is None


@pytest.mark.parametrize("name", ["context", "configurable"])
async def test_a_run_lies_over_its_assistant_and_that_over_its_graph(
    talk: Talk, make: Make, name: str
) -> None:
    nested = {"a": 1, "b": 2}
    assistant = await make("bound", context={"model": "assistant", "nested": nested})
    told = await seen(talk, assistant)
    assert told["context"] == {"model": "assistant", "nested": nested}
    assert told["configurable"] == {**told["context"], "extra": "graph"}
    own = {"nested": {"b": 3}, "temp": 1, "model": None}
    body = {"context": own} if name == "context" else {"config": {"configurable": own}}
    told = await seen(talk, assistant, **body)
    assert told["context"] == own
    assert told["configurable"] == {**own, "extra": "graph"}


async def test_tags_and_the_limit_of_a_run_replace_its_assistants(talk: Talk, make: Make) -> None:
    assistant = await make("bound", config={"tags": ["assistant"], "recursion_limit": 8})
    told = await seen(talk, assistant)
    assert (sorted(told["tags"]), told["recursion_limit"]) == (["assistant", "graph"], 8)
    told = await seen(talk, assistant, config={"tags": ["run"], "recursion_limit": 5})
    assert (sorted(told["tags"]), told["recursion_limit"]) == (["graph", "run"], 5)
    told = await seen(talk, await make("bound"))
    assert (told["tags"], told["recursion_limit"]) == (["graph"], 11)


async def test_metadata_lie_over_each_other(talk: Talk, make: Make) -> None:
    assistant = await make("bound", metadata={"of_assistant": 1, "all": "assistant"})
    told = await seen(talk, assistant)
    assert told["metadata"] == {"of_graph": 1, "of_assistant": 1, "all": "assistant"}
    thread_id = await talk.new_thread(metadata={"of_thread": 1, "all": "thread"})
    body: dict[str, Any] = {"config": {"metadata": {"of_config": 1, "all": "config"}}}
    for more, last in [({}, "config"), ({"metadata": {"of_run": 1, "all": "run"}}, "run")]:
        output = await talk.wait(thread_id, assistant["assistant_id"], input={}, **body, **more)
        expected = dict.fromkeys(("of_graph", "of_assistant", "of_thread", "of_config"), 1)
        of_run = {"of_run": 1} if more else {}
        assert output["out"]["metadata"] == {**expected, **of_run, "all": last}


async def test_an_assistants_config_has_metadata_too(talk: Talk, make: Make) -> None:
    assistant = await make(config={"metadata": {"of_config": 1}})
    assert (await seen(talk, assistant))["metadata"] == {"of_config": 1}


async def test_no_run_inherits_from_the_thread(talk: Talk, make: Make, thread_id: str) -> None:
    assistant = await make(context={"model": "a"})
    await talk.wait(thread_id, assistant["assistant_id"], input={}, context={"sticky": 1})
    output = await talk.wait(thread_id, "seen", input={})
    assert (output["out"]["configurable"], output["out"]["context"]) == ({}, None)


async def test_a_patch_is_for_the_next_run(talk: Talk, make: Make, thread_id: str) -> None:
    """A run that waits in the queue keeps what it was created with."""
    assistant = await make(context={"model": "one"})
    assistant_id = assistant["assistant_id"]
    first = await talk.create(thread_id, assistant_id, input={"seconds": 1})
    queued = await talk.create(thread_id, assistant_id, input={}, multitask_strategy="enqueue")
    await patched(talk, assistant, context={"model": "two"})
    for run in (first, queued):
        output = await talk.join(thread_id, run["run_id"])
    assert output["out"]["context"] == {"model": "one"}
    assert (await seen(talk, assistant))["context"] == {"model": "two"}


async def test_a_run_names_the_version_of_its_assistant(
    talk: Talk, make: Make, thread_id: str
) -> None:
    assistant = await make()
    assistant_id = assistant["assistant_id"]
    for version in (1, 2):
        run = await talk.create(thread_id, assistant_id, input={})
        assert run["assistant_version"] == version
        await talk.join(thread_id, run["run_id"])
        path = f"/threads/{thread_id}/runs"
        assert ok(await talk.get(f"{path}/{run['run_id']}"))["assistant_version"] == version
        await patched(talk, assistant, name=f"{version}")


async def test_drawings_and_schemas_are_those_of_the_assistants_graph(
    talk: Talk, make: Make
) -> None:
    path = f"/assistants/{(await make())['assistant_id']}"
    nodes = ok(await talk.get(f"{path}/graph"))["nodes"]
    assert [node["id"] for node in nodes] == ["__start__", "look", "__end__"]
    assert "model" in ok(await talk.get(f"{path}/schemas"))["context_schema"]["properties"]
    assert ok(await talk.get(f"{path}/subgraphs")) == {}


# --- the end -------------------------------------------------------------------------------------


async def test_a_deleted_assistant_is_gone(talk: Talk, make: Make, thread_id: str) -> None:
    assistant_id = (await make())["assistant_id"]
    await talk.wait(thread_id, assistant_id, input={})
    answer = await talk.delete(f"/assistants/{assistant_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    refused(await talk.get(f"/assistants/{assistant_id}"), 404)
    refused(await talk.delete(f"/assistants/{assistant_id}"), 404)
    body = {"assistant_id": assistant_id, "input": {}}
    said = refused(await talk.post(f"/threads/{thread_id}/runs", body), 404)
    assert said == "Thread or assistant not found."
    # Its threads and their runs stay.
    assert ok(await talk.get(f"/threads/{thread_id}"))["metadata"]["assistant_id"] == assistant_id
    assert len(ok(await talk.get(f"/threads/{thread_id}/runs"))) == 1


async def test_a_deleted_assistants_runs_are_stopped(
    talk: Talk, make: Make, thread_id: str
) -> None:
    assistant_id = (await make())["assistant_id"]
    runs = [
        await talk.create(thread_id, assistant_id, input={"seconds": seconds})
        for seconds in (60, 0)
    ]
    assert (await talk.delete(f"/assistants/{assistant_id}")).status_code == 204
    for run in runs:
        path = f"/threads/{thread_id}/runs/{run['run_id']}"
        await talk.get(f"{path}/join")
        assert ok(await talk.get(path))["status"] == "interrupted"


async def test_threads_go_with_an_assistant_if_that_is_asked_for(talk: Talk, make: Make) -> None:
    assistant_id = (await make())["assistant_id"]
    threads = [await talk.new_thread() for _ in range(2)]
    for thread_id in threads:
        await talk.wait(thread_id, assistant_id, input={})
    await talk.wait(threads[1], "seen", input={})
    answer = await talk.delete(f"/assistants/{assistant_id}?delete_threads=true")
    assert answer.status_code == 204
    refused(await talk.get(f"/threads/{threads[0]}"), 404)
    # Another assistant has used it since.
    ok(await talk.get(f"/threads/{threads[1]}"))


async def test_a_graphs_own_assistant_may_be_changed(talk: Talk) -> None:
    path = f"/assistants/{id_of('bound')}"
    try:
        changed = ok(await talk.patch(path, {"context": {"model": "mine"}}))
        assert changed["metadata"] == {"created_by": "system"}
        output = await talk.wait(None, "bound", input={})
        assert output["out"]["context"] == {"model": "mine"}
    finally:
        ok(await talk.post(f"{path}/latest", {"version": 1}))
