"""What a graph may raise: the run ends in error with its name, and nothing else happens."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from typing_extensions import TypedDict

from greenroom.core.raised import MAX_MESSAGE, Escaped, message_of, representation, told
from greenroom.core.runs import RunOrder, RunStatus
from greenroom.graphs.configuration import GraphSpec
from greenroom.graphs.containment import contain
from greenroom.graphs.execution import execute, state_after
from greenroom.graphs.factories import Factory
from greenroom.graphs.loading import LoadedGraph
from tests.graphs.graph_driver import Driven, given, order, run

BOUND_S = 20.0


class Own(BaseException):
    pass


class Mute(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError("in __str__")

    __repr__ = __str__


class Leaving(Exception):
    def __str__(self) -> str:
        sys.exit(3)

    __repr__ = __str__


RAISED: dict[str, tuple[Callable[[], BaseException], str, str]] = {
    "exit": (lambda: SystemExit(2), "SystemExit", "2"),
    "keyboard": (lambda: KeyboardInterrupt("k"), "KeyboardInterrupt", "k"),
    "generator": (lambda: GeneratorExit("g"), "GeneratorExit", "g"),
    "own": (lambda: Own("o"), "Own", "o"),
    "mute": (lambda: Mute(), "Mute", "<Mute: ZeroDivisionError while its message was read>"),
    "leaving": (lambda: Leaving(), "Leaving", "<Leaving: SystemExit while its message was read>"),
    "long": (
        lambda: ValueError("x" * 10_000_000),
        "ValueError",
        "x" * MAX_MESSAGE + "... (10000000 characters)",
    ),
    "plain": (lambda: ValueError("v"), "ValueError", "v"),
}
Raise = Callable[[], None]


class State(TypedDict, total=False):
    before: str
    x: Annotated[Any, lambda old, new: new]


async def first(state: State) -> State:
    return {"before": "kept"}


def built(node: Any, **changes: Any) -> Any:
    builder = StateGraph(changes.pop("state", State))
    builder.add_node("first", first)
    builder.add_node("raises", node)
    builder.add_edge(START, "first")
    builder.add_edge("first", "raises")
    for change in changes.values():
        change(builder)
    return builder.compile()


def in_a_node(fail: Raise) -> Any:
    async def node(state: State) -> State:
        await asyncio.sleep(0)
        fail()
        return {}

    return given(built(node))


def in_a_sync_node(fail: Raise) -> Any:
    def node(state: State) -> State:
        fail()
        return {}

    return given(built(node))


def in_a_task_of_a_node(fail: Raise) -> Any:
    async def node(state: State) -> State:
        async def inner() -> None:
            await asyncio.sleep(0)
            fail()

        await asyncio.gather(inner(), asyncio.sleep(0))
        return {}

    return given(built(node))


def in_a_group_of_a_node(fail: Raise) -> Any:
    async def node(state: State) -> State:
        async def inner() -> None:
            await asyncio.sleep(0)
            fail()

        async with asyncio.TaskGroup() as group:
            group.create_task(inner())
        return {}

    return given(built(node))


def in_a_subgraph(fail: Raise) -> Any:
    async def node(state: State) -> State:
        await asyncio.sleep(0)
        fail()
        return {}

    return given(built(built(node)))


def in_an_edge(fail: Raise) -> Any:
    def way(state: State) -> str:
        fail()
        return "__end__"

    async def node(state: State) -> State:
        return {}

    return given(built(node, edge=lambda b: b.add_conditional_edges("raises", way)))


def in_a_reducer(fail: Raise) -> Any:
    def reduced(old: Any, new: Any) -> Any:
        if new == "raise":
            fail()
        return new

    async def node(state: Any) -> Any:
        return {"x": "raise"}

    fields: dict[str, Any] = {"before": str, "x": Annotated[Any, reduced]}
    return given(built(node, state=TypedDict("Reducing", fields, total=False)))


def in_a_generator_of_a_node(fail: Raise) -> Any:
    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            fail()

    async def node(state: State) -> State:
        found = numbers()
        await anext(found)
        await found.aclose()
        return {}

    return given(built(node))


def in_a_tool(fail: Raise) -> Any:
    @tool
    async def leave(n: int) -> str:
        """Leaves."""
        await asyncio.sleep(0)
        fail()
        return "stays"

    class Messages(MessagesState, total=False):
        before: str

    async def call(state: Any) -> Any:
        calls = [{"name": "leave", "args": {"n": n}, "id": str(n)} for n in range(2)]
        return {"before": "kept", "messages": [AIMessage("", tool_calls=calls)]}  # type: ignore[arg-type]

    builder = StateGraph(Messages)
    builder.add_node("first", call)
    builder.add_node("raises", ToolNode([leave]))
    builder.add_edge(START, "first")
    builder.add_edge("first", "raises")
    return given(builder.compile())


def in_a_callback(fail: Raise) -> Any:
    class Handler(AsyncCallbackHandler):
        raise_error = True

        async def on_chain_start(self, *_: Any, name: str = "", **__: Any) -> None:
            if name == "raises":
                fail()

    async def node(state: State) -> State:
        return {}

    return given(built(node).with_config({"callbacks": [Handler()]}))


def in_a_sync_callback(fail: Raise) -> Any:
    class Handler(BaseCallbackHandler):
        raise_error = True

        def on_chain_start(self, *_: Any, name: str = "", **__: Any) -> None:
            if name == "raises":
                fail()

    def node(state: State) -> State:
        return {}

    return given(built(node).with_config({"callbacks": [Handler()]}))


KEEPS = (
    *(in_a_node, in_a_sync_node, in_a_task_of_a_node, in_a_group_of_a_node, in_a_subgraph),
    *(in_an_edge, in_a_reducer, in_a_generator_of_a_node, in_a_tool, in_a_callback),
    in_a_sync_callback,
)


def factory(make: Any) -> Any:
    call = Factory(call=make, config=None, runtime=None)
    return LoadedGraph(spec=GraphSpec(graph_id="given", target="here:make"), factory=call)


def in_a_factory(fail: Raise) -> Any:
    def make() -> Any:
        fail()

    return factory(make)


def in_an_async_factory(fail: Raise) -> Any:
    async def make() -> Any:
        await asyncio.sleep(0)
        fail()

    return factory(make)


def entering_a_factory(fail: Raise) -> Any:
    @asynccontextmanager
    async def make() -> AsyncIterator[Any]:
        fail()
        yield built(first)

    return factory(make)


def leaving_a_factory(fail: Raise) -> Any:
    @asynccontextmanager
    async def make() -> AsyncIterator[Any]:
        yield built(first)
        fail()

    return factory(make)


def leaving_a_sync_factory(fail: Raise) -> Any:
    @contextmanager
    def make() -> Iterator[Any]:
        yield built(first)
        fail()

    return factory(make)


def in_a_functional_graph(fail: Raise) -> Any:
    @task
    async def work() -> int:
        await asyncio.sleep(0)
        fail()
        return 1

    @entrypoint()
    async def graph(value: Any) -> Any:
        return await work()

    return given(graph)


KEEPS_NOTHING = (
    *(in_a_factory, in_an_async_factory, entering_a_factory, leaving_a_factory),
    *(leaving_a_sync_factory, in_a_functional_graph),
)


def on_a_loop(work: Callable[[], Any]) -> Any:
    """As an actor runs it: on a loop that is contained, and that outlives what is raised."""
    with asyncio.Runner() as runner:

        async def bounded() -> Any:
            contain(asyncio.get_running_loop())
            async with asyncio.timeout(BOUND_S):
                return await asyncio.create_task(work())

        return runner.run(bounded())


async def executed(
    loaded: LoadedGraph, order: RunOrder, saver: InMemorySaver, durability: str
) -> Driven:
    driven = Driven([])
    driven.outcome = await execute(
        loaded,
        order,
        emit=lambda name, data: driven.events.append((name, json.loads(data))),
        checkpointer=saver,
        store=None,
    )
    return driven


def failing(how: str) -> Raise:
    def fail() -> None:
        raise RAISED[how][0]()

    return fail


CASES = [
    pytest.param(where, how, id=f"{where.__name__}-{how}")
    for where in (*KEEPS, *KEEPS_NOTHING)
    for how in RAISED
    # Raised while a generator is closed, this means that it is closed.
    if (where, how) != (in_a_generator_of_a_node, "generator")
]


@pytest.mark.parametrize(("where", "how"), CASES)
def test_a_run_ends_in_error_and_keeps_what_was_finished(where: Any, how: str) -> None:
    _, name, message = RAISED[how]
    failed = order(input={"x": 1}, durability="async")
    beside = order(input={"x": 1})

    async def work() -> tuple[Driven, Driven, Driven]:
        has_failed = asyncio.Event()

        async def outlives(state: State) -> State:
            await has_failed.wait()
            return {"x": "done"}

        async def fails() -> Driven:
            done = await executed(where(failing(how)), failed, InMemorySaver(), "async")
            has_failed.set()
            return done

        other = given(built(outlives))
        one, two = await asyncio.gather(fails(), executed(other, beside, InMemorySaver(), "async"))
        return one, two, await executed(other, order(input={"x": 1}), InMemorySaver(), "async")

    one, two, three = on_a_loop(work)
    assert one.outcome is not None
    assert one.outcome.status is RunStatus.ERROR
    error = json.loads(one.outcome.error)
    if where in (in_a_callback, in_a_sync_callback) and how in ("mute", "leaving"):
        # LangChain logs the `repr`, which raises again: that is what leaves it.
        assert error["error"] in ("ZeroDivisionError", "SystemExit")
    elif where is in_a_group_of_a_node and how in ("mute", "leaving", "long", "plain"):
        assert error["error"] == "ExceptionGroup"
    else:
        assert error == {"error": name, "message": message}
    assert one.output == {"__error__": error}
    if where in KEEPS:
        assert json.loads(one.outcome.values or b"null")["before"] == "kept"
    for other in (two, three):
        assert other.outcome is not None
        assert other.outcome.status is RunStatus.SUCCESS


def test_a_generator_that_nobody_closed_harms_nobody() -> None:
    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            sys.exit(4)

    async def node(state: State) -> State:
        await anext(numbers())
        gc.collect()
        await asyncio.sleep(0.01)
        return {"x": "done"}

    told_of: list[Any] = []

    async def work() -> Driven:
        asyncio.get_running_loop().set_exception_handler(lambda _, about: told_of.append(about))
        done = await executed(given(built(node)), order(input={"x": 1}), InMemorySaver(), "async")
        gc.collect()
        return done

    done = on_a_loop(work)
    assert done.outcome.status is RunStatus.SUCCESS
    assert all(isinstance(about["exception"], Escaped) for about in told_of)


def test_a_state_that_cannot_be_read_raises_an_exception() -> None:
    async def work() -> None:
        with pytest.raises(Escaped, match="2"):
            await state_after(
                in_a_factory(failing("exit")),
                order(input={}),
                checkpointer=InMemorySaver(),
                store=None,
            )

    on_a_loop(work)


def test_a_task_that_is_cancelled_before_it_begins_leaves_no_warning() -> None:
    async def work() -> None:
        async def never() -> None:
            raise AssertionError

        begun = asyncio.create_task(never(), name="a name")
        assert "never" in repr(begun)
        begun.cancel()
        with pytest.raises(asyncio.CancelledError):
            await begun
        del begun
        gc.collect()

    on_a_loop(work)


def test_a_contained_coroutine_is_closed_as_it_is() -> None:
    closed: list[str] = []

    async def work() -> None:
        async def waiting() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                closed.append("yes")

        held = asyncio.create_task(waiting())
        await asyncio.sleep(0)
        coro = held.get_coro()
        assert coro is not None
        coro.close()
        held.cancel()
        await asyncio.gather(held, return_exceptions=True)

    on_a_loop(work)
    assert closed == ["yes"]


async def test_a_stop_iteration_of_a_node_is_told_although_it_comes_wrapped() -> None:
    def stops(state: MessagesState) -> None:
        raise StopIteration("no more rows")

    builder = StateGraph(MessagesState).add_node("stops", stops).add_edge(START, "stops")
    driven = await run(given(builder.compile()), order(input={"messages": []}))
    assert driven.output["__error__"] == {
        "error": "RuntimeError",
        "message": "StopIteration: no more rows",
    }


def test_what_is_told_is_bounded_and_always_there() -> None:
    for make, name, message in RAISED.values():
        for error in (make(), Escaped(make())):
            assert told(error) == {"error": name, "message": message}
            assert len(representation(error)) < MAX_MESSAGE + 100
    assert representation(Escaped(SystemExit(2))) == "SystemExit(2)"
    assert message_of(Escaped(SystemExit(2))) == str(Escaped(SystemExit(2))) == "2"
