"""A run reads and writes its own thread only, whatever a client and a graph's author put where."""

from __future__ import annotations

import asyncio
import json
import operator
import uuid
from dataclasses import replace
from typing import Annotated, Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict

from greenroom.core.errors import ForeignThread
from greenroom.core.identity import system_assistant_id
from greenroom.core.ports import HistoryQuestion, SchemasQuestion, StateQuestion, StateUpdate
from greenroom.core.runs import Outcome, RunStatus
from greenroom.graphs.configuration import GraphSpec
from greenroom.graphs.execution import execute
from greenroom.graphs.factories import Factory
from greenroom.graphs.loading import LoadedGraph
from greenroom.graphs.state import answer, update
from greenroom.http.app import create_app
from greenroom.persistence.checkpoints import PooledSaver
from greenroom.persistence.database import Pool, open_pool
from greenroom.persistence.fenced_saver import FencedSaver
from tests.http.edge_doubles import MemoryRecords, MemoryRuntime
from tests.persistence.test_checkpoints import a_run
from tests.run_records import order_of

SECRET = "the secret of the other thread"
VICTIM = "01a201fe-afa1-7456-8017-aaaaaaaaaaaa"
EXAMPLES = 100


class State(TypedDict, total=False):
    notes: Annotated[list[str], operator.add]
    ask: bool
    answer: str
    shown: dict[str, Any]


async def note(state: State, config: RunnableConfig) -> State:
    shown = {
        key: value
        for key, value in config["configurable"].items()
        if not key.startswith("__pregel") and isinstance(value, str | None)
    }
    return {"notes": ["a note"], "shown": shown}


async def perhaps_ask(state: State) -> State:
    return {"answer": interrupt("open?")} if state.get("ask") else {}


_builder = StateGraph(State)
_builder.add_node("note", note)
_builder.add_node("perhaps_ask", perhaps_ask)
_builder.add_edge(START, "note")
_builder.add_edge("note", "perhaps_ask")
_builder.add_edge("perhaps_ask", END)
GRAPH = _builder.compile()


def loaded(graph: Any = GRAPH) -> LoadedGraph:
    return LoadedGraph(spec=GraphSpec(graph_id="counter", target="here:graph"), graph=graph)


async def a_thread(pool: Pool, thread_id: str) -> str:
    async with pool.connection() as conn:
        await conn.execute(
            "INSERT INTO greenroom.threads (thread_id) VALUES (%s) ON CONFLICT DO NOTHING",
            (thread_id,),
        )
    return thread_id


async def a_victim(pool: Pool) -> str:
    """A thread with a state and a question that waits; returns its newest checkpoint."""
    await a_thread(pool, VICTIM)
    await run(pool, VICTIM, {"input": {"notes": [SECRET], "ask": True}})
    head = await PooledSaver(pool).aget_tuple({"configurable": {"thread_id": VICTIM}})
    assert head is not None
    return head.checkpoint["id"]


async def everything_of(pool: Pool, thread_id: str) -> list[Any]:
    found: list[Any] = []
    async with pool.connection() as conn:
        for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes"):
            cursor = await conn.execute(
                f"SELECT to_jsonb(t)::text AS row FROM {table} t WHERE thread_id = %s"  # type: ignore[arg-type]
                " ORDER BY 1",
                (thread_id,),
            )
            found.append(await cursor.fetchall())
    return found


async def run(
    pool: Pool,
    thread_id: str,
    kwargs: dict[str, Any],
    *,
    graph: Any = GRAPH,
    run_id: str | None = None,
    bound: bool = True,
    is_first: bool = False,
) -> tuple[Outcome, list[bytes]]:
    """One attempt of a run, with its events."""
    registered = await a_run(pool, thread_id)
    order = order_of(
        run_id=registered,
        thread_id=thread_id,
        assistant_id=str(uuid.uuid4()),
        graph_id="counter",
        attempt=1,
        kwargs=json.dumps(kwargs).encode(),
        temporary=False,
        resumable=False,
    )
    events: list[bytes] = []
    saver = FencedSaver(
        pool,
        run_id=registered,
        attempt=1,
        thread_id=thread_id if bound else None,
        is_first=is_first,
    )
    outcome = await execute(
        loaded(graph),
        order,
        emit=lambda name, data: events.append(data),
        checkpointer=saver,
        store=None,
    )
    await saver.settled()
    return outcome, events


# --- what a client sends --------------------------------------------------------------------------

KEYS = st.sampled_from(
    [
        *("thread_id", "checkpoint_id", "checkpoint_ns", "checkpoint_map", "run_id"),
        *("assistant_id", "graph_id", "user_id", "callbacks", "model"),
        *("langgraph_auth_user", "langgraph_auth_user_id", "langgraph_request_id"),
        *("__pregel_checkpointer", "__pregel_resume_map", "__pregel_task_id", "__pregel_send"),
        *("__pregel_scratchpad", "__pregel_replay_state", "__pregel_runtime", "__x"),
    ]
)


THE_SERVERS = (
    *("thread_id", "run_id", "graph_id", "assistant_id", "user_id", "__x"),
    *("langgraph_auth_user", "langgraph_auth_user_id", "langgraph_request_id"),
)


def bodies(head: str) -> st.SearchStrategy[dict[str, Any]]:
    """Bodies of runs with the keys of the server anywhere."""
    values = st.sampled_from(
        [VICTIM, VICTIM.upper(), head, "", None, {}, {"": head}, {"thread_id": VICTIM}, "admin", 1]
    )
    parts = st.dictionaries(KEYS, values, max_size=3)
    configs = st.fixed_dictionaries(
        {}, optional={"configurable": parts, "metadata": parts}
    ).flatmap(lambda config: parts.map(lambda beside: {**beside, **config}))
    return st.fixed_dictionaries(
        {},
        optional={
            "input": parts | st.just({"notes": ["mine"]}),
            "command": st.fixed_dictionaries(
                {}, optional={"resume": st.just("yes"), "update": parts}
            ),
            "config": configs | parts,
            "context": parts,
            "metadata": parts,
            "checkpoint": parts,
            "checkpoint_id": st.just(head),
        },
    ).flatmap(lambda body: parts.map(lambda beside: {**beside, **body}))


OF_ASSISTANTS = ("config", "context", "metadata")


@pytest.mark.parametrize("whose", ["run", "assistant", "stored assistant"])
@pytest.mark.parametrize("bound", [False, True], ids=["by its config", "by its saver too"])
def test_no_body_of_a_run_reaches_another_thread(dsn: str, bound: bool, whose: str) -> None:
    """Once without the saver's own refusal: the first lock holds alone.

    The keys are the run's, its assistant's as a client makes it, or its assistant's as it is in the
    database, e.g. since an older server.
    """

    async def begin() -> tuple[Pool, str, list[Any], MemoryRuntime, httpx.AsyncClient]:
        pool = await open_pool(dsn, application_name="greenroom:test", max_size=4)
        head = await a_victim(pool)
        records = MemoryRecords()
        runtime = MemoryRuntime(records)
        app = create_app(runtime=runtime, records=records, graphs=["counter"])
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://edge")
        return pool, head, await everything_of(pool, VICTIM), runtime, client

    with asyncio.Runner() as runner:
        pool, head, before, runtime, client = runner.run(begin())

        async def with_assistant(body: dict[str, Any]) -> dict[str, Any] | None:
            """The body of a run, whose assistant has taken parts of it; None: it was refused."""
            if whose == "run":
                return {**body, "assistant_id": "counter"}
            parts = {key: part for key, part in body.items() if key in OF_ASSISTANTS}
            of_run = {key: part for key, part in body.items() if key not in OF_ASSISTANTS}
            its_id = str(uuid.uuid4())
            if whose == "assistant":
                new = {**parts, "graph_id": "counter", "assistant_id": its_id}
                made = await client.post("/assistants", json=new)
                if made.status_code != 200:
                    assert made.status_code in (400, 422)
                    return None
            else:
                stored = runtime.records.assistants[system_assistant_id("counter")]
                given = {key: dict(part or {}) for key, part in parts.items()}
                runtime.records.assistants[its_id] = {**stored, **given, "assistant_id": its_id}
            return {**of_run, "assistant_id": its_id}

        async def one(body: dict[str, Any]) -> None:
            thread_id = await a_thread(pool, str(uuid.uuid4()))
            runtime.records.add_thread(thread_id)
            asked = await with_assistant(body)
            if asked is None:
                return
            answered = await client.post(f"/threads/{thread_id}/runs", json=asked)
            assert answered.status_code < 500
            if answered.status_code != 200:
                assert answered.status_code in (400, 422)
                return
            request = runtime.requests[-1]
            assert request.thread_id == thread_id
            outcome, events = await run(pool, thread_id, json.loads(request.kwargs), bound=bound)
            assert SECRET.encode() not in b"".join((*events, outcome.output, outcome.values or b""))
            assert await everything_of(pool, VICTIM) == before
            if outcome.status is RunStatus.SUCCESS and body.get("input") is not None:
                assert outcome.values is not None, "its checkpoints are kept"
                shown = json.loads(outcome.values)["shown"]
                assert shown["thread_id"] == thread_id
                forged = {key for key in THE_SERVERS if shown.get(key) in ("admin", VICTIM)}
                # Without `auth` that one is what the client, or the assistant's author, says it is.
                named = (body.get("config") or {}).get("configurable"), body.get("context")
                told = [(each or {}).get("user_id") for each in named]
                if whose != "run" or shown.get("user_id") in told:
                    forged.discard("user_id")
                assert not forged

        @settings(
            max_examples=EXAMPLES,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(body=bodies(head))
        def send(body: dict[str, Any]) -> None:
            runner.run(one(body))

        try:
            send()
        finally:
            runner.run(client.aclose())
            runner.run(pool.close())


@pytest.mark.parametrize("key", ["thread_id", "__pregel_checkpointer", "langgraph_auth_user"])
async def test_a_run_that_an_older_server_has_queued_is_cleaned_as_well(
    pool: Pool, key: str
) -> None:
    await a_victim(pool)
    thread_id = await a_thread(pool, str(uuid.uuid4()))
    config = {key: VICTIM, "configurable": {"__pregel_checkpointer": None}}
    outcome, _ = await run(
        pool, thread_id, {"input": {"notes": ["mine"]}, "config": config}, bound=False
    )
    assert outcome.status is RunStatus.SUCCESS
    assert json.loads(outcome.values or b"{}")["notes"] == ["mine", "a note"]


async def test_a_resume_answers_no_question_of_another_thread(pool: Pool) -> None:
    await a_victim(pool)
    before = await everything_of(pool, VICTIM)
    thread_id = await a_thread(pool, str(uuid.uuid4()))
    for bound in (False, True):
        await run(
            pool,
            thread_id,
            {"command": {"resume": "yes"}, "config": {"thread_id": VICTIM}},
            bound=bound,
        )
    assert await everything_of(pool, VICTIM) == before


# --- what a graph's author writes -----------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {"configurable": {"thread_id": VICTIM}},
        {"thread_id": VICTIM},
        {"configurable": {"checkpoint_id": "x"}},
        {"configurable": {"__pregel_checkpointer": None}},
    ],
    ids=["thread", "thread beside", "checkpoint", "saver"],
)
async def test_what_an_author_has_bound_names_no_thread(pool: Pool, config: Any) -> None:
    head = await a_victim(pool)
    if "checkpoint_id" in config.get("configurable", {}):
        config = {"configurable": {"checkpoint_id": head}}
    before = await everything_of(pool, VICTIM)
    graph = GRAPH.with_config(config)
    thread_id = await a_thread(pool, str(uuid.uuid4()))
    for _ in range(2):
        outcome, _ = await run(
            pool, thread_id, {"input": {"notes": ["mine"]}}, graph=graph, bound=False
        )
        assert outcome.status is RunStatus.SUCCESS
    assert json.loads(outcome.values or b"{}")["notes"] == ["mine", "a note"] * 2
    assert await everything_of(pool, VICTIM) == before


async def test_what_else_an_author_has_bound_stays(pool: Pool) -> None:
    graph = GRAPH.with_config({"tags": ["t"], "configurable": {"model": "small"}})
    outcome, _ = await run(pool, "t", {"input": {}}, graph=graph)
    assert json.loads(outcome.values or b"{}")["shown"]["model"] == "small"


@pytest.fixture
def nested() -> Any:
    """Its node calls a graph that keeps its state under the thread id in the input."""

    class Outer(TypedDict, total=False):
        private: str
        found: list[str]

    async def node(state: Outer, config: RunnableConfig) -> Outer:
        saver = config["configurable"]["__pregel_checkpointer"]
        own = {"thread_id": state["private"], "__pregel_checkpointer": saver}
        inner = await GRAPH.ainvoke({"notes": ["inner"]}, {"configurable": own})
        return {"found": inner["notes"]}

    builder = StateGraph(Outer)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    return builder.compile()


@pytest.mark.parametrize("is_first", [False, True])
async def test_a_nested_graph_keeps_state_under_an_id_of_its_own(
    pool: Pool, nested: Any, is_first: bool
) -> None:
    thread_id = await a_thread(pool, str(uuid.uuid4()))
    for private in ("a memory", str(uuid.uuid4())):
        for count in (1, 2):
            outcome, _ = await run(
                pool,
                thread_id,
                {"input": {"private": private}, "durability": "exit"},
                graph=nested,
                is_first=is_first,
            )
            assert json.loads(outcome.output)["found"] == ["inner", "a note"] * count


@pytest.mark.parametrize("name", [VICTIM, VICTIM.upper()])
async def test_a_nested_graph_meets_no_thread_of_the_server(
    pool: Pool, nested: Any, name: str
) -> None:
    await a_victim(pool)
    before = await everything_of(pool, VICTIM)
    thread_id = await a_thread(pool, str(uuid.uuid4()))
    outcome, _ = await run(pool, thread_id, {"input": {"private": name}}, graph=nested)
    assert outcome.status is RunStatus.ERROR
    error = json.loads(outcome.error or b"{}")
    assert error["error"] == "ForeignThread"
    assert "another one of this server" in error["message"]
    assert await everything_of(pool, VICTIM) == before


async def test_an_id_of_its_own_is_given_up_once_a_thread_has_it(pool: Pool, nested: Any) -> None:
    private = str(uuid.uuid4())
    thread_id = await a_thread(pool, str(uuid.uuid4()))
    outcome, _ = await run(pool, thread_id, {"input": {"private": private}}, graph=nested)
    assert outcome.status is RunStatus.SUCCESS
    await a_thread(pool, private)
    outcome, _ = await run(pool, thread_id, {"input": {"private": private}}, graph=nested)
    assert json.loads(outcome.error or b"{}")["error"] == "ForeignThread"


# --- the saver ------------------------------------------------------------------------------------


async def test_a_saver_refuses_every_way_to_another_thread(pool: Pool) -> None:
    head = await a_victim(pool)
    before = await everything_of(pool, VICTIM)
    own = await a_thread(pool, "own")
    saver = FencedSaver(pool, run_id=await a_run(pool, own), attempt=1, thread_id=own)
    there: Any = {"configurable": {"thread_id": VICTIM, "checkpoint_ns": "", "checkpoint_id": head}}
    ways = [
        lambda: saver.aget_tuple(there),
        lambda: saver.aput(there, before, {}, {}),  # type: ignore[arg-type]
        lambda: saver.aput_writes(there, [("x", 1)], "task"),
        lambda: saver.adelete_thread(VICTIM),
        lambda: saver.aprune([own, VICTIM]),
        lambda: saver.aget_delta_channel_history(config=there, channels=["notes"]),
        lambda: asyncio.to_thread(saver.get_tuple, there),
        lambda: asyncio.to_thread(saver.delete_thread, VICTIM),
        lambda: anext(saver.alist(there)),
    ]
    for way in ways:
        with pytest.raises(ForeignThread):
            await way()
    # Nobody implements these, so that nothing is to be refused; a newer LangGraph may.
    missing = [
        lambda: saver.acopy_thread(VICTIM, own),
        lambda: saver.adelete_for_runs(["run"]),
        lambda: asyncio.to_thread(saver.copy_thread, VICTIM, own),
        lambda: asyncio.to_thread(saver.delete_for_runs, ["run"]),
    ]
    for way in missing:
        with pytest.raises(NotImplementedError):
            await way()
    assert [found async for found in saver.alist(None)] == []
    assert await everything_of(pool, VICTIM) == before


async def test_a_savers_own_thread_costs_no_query(pool: Pool) -> None:
    own = await a_thread(pool, "own")
    saver = FencedSaver(pool, run_id=await a_run(pool, own), attempt=1, thread_id=own)
    asked = 0

    def counting(*_: Any) -> Any:
        nonlocal asked
        asked += 1

    looks = saver._cursor
    saver._cursor = lambda **given: counting() or looks(**given)  # type: ignore[method-assign]
    assert await saver.aget_tuple({"configurable": {"thread_id": own}}) is None
    assert asked == 1


# --- questions ------------------------------------------------------------------------------------


async def test_questions_and_updates_are_about_their_thread(pool: Pool) -> None:
    head = await a_victim(pool)
    before = await everything_of(pool, VICTIM)
    thread_id = await a_thread(pool, str(uuid.uuid4()))
    saver = PooledSaver(pool, thread_id=thread_id)
    checkpoint = {"thread_id": VICTIM, "checkpoint_id": head, "__pregel_checkpointer": None}
    graph = loaded(GRAPH.with_config({"configurable": {"thread_id": VICTIM}}))
    about: dict[str, Any] = {"graph_id": "counter", "thread_id": thread_id}
    answers = [
        await answer(graph, question, checkpointer=saver, store=None)
        for question in (
            StateQuestion(**about, checkpoint=checkpoint, subgraphs=True),
            StateQuestion(**about),
            HistoryQuestion(**about, checkpoint=checkpoint, before=checkpoint, limit=10),
            HistoryQuestion(**about, limit=10, metadata={"thread_id": VICTIM}),
        )
    ]
    assert SECRET.encode() not in b"".join(answers)
    given = StateUpdate(**about, values=b'{"notes": ["x"]}', as_node="note")
    for one in (given, replace(given, checkpoint={"thread_id": VICTIM})):
        await update(graph, one, checkpointer=saver, store=None)
    assert await everything_of(pool, VICTIM) == before


async def test_a_question_about_a_graph_is_about_no_thread(pool: Pool) -> None:
    await a_victim(pool)

    async def make(config: RunnableConfig) -> Any:
        assert "thread_id" not in config.get("configurable", {})
        assert set(config) <= {"configurable", "tags"}
        return GRAPH

    factory: Any = make
    made = LoadedGraph(
        spec=GraphSpec(graph_id="counter", target="here:make"),
        factory=Factory(call=factory, config="config", runtime=None),
    )
    config = {"thread_id": VICTIM, "configurable": {"thread_id": VICTIM, "__x": 1}, "tags": ["t"]}
    question = SchemasQuestion(graph_id="counter", config=config)
    saver = PooledSaver(pool, thread_id="")
    assert b"input_schema" in await answer(made, question, checkpointer=saver, store=None)
    with pytest.raises(ForeignThread):
        await saver.aget_tuple({"configurable": {"thread_id": VICTIM}})
