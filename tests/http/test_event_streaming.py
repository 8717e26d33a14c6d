"""Event streaming: commands, the log of a thread as an event stream, and over a WebSocket."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI

from greenroom.core.errors import Unavailable
from greenroom.core.events import Event, first_seq
from greenroom.core.identity import system_assistant_id
from greenroom.core.limits import Limits
from greenroom.core.thread_log import END, LogEvent, event_name
from greenroom.http.limits import LimitedCallers
from greenroom.http.usage import CallerUsage
from tests.http.edge_doubles import MemoryRecords, MemoryRuntime

BOUND_S = 10.0
THREAD = "656ebb01-2f41-4e1c-8df6-f83b6e2bb981"
COUNTER = system_assistant_id("counter")
MOUNTS = ["", "/api"]


def event(name: str, data: Any = None, index: int = 1, run_id: str = "r") -> LogEvent:
    found = Event(first_seq(1) + index, 5, name, orjson.dumps(data))
    return LogEvent(number=1, run_id=run_id, event=found)


@pytest.fixture(params=MOUNTS, ids=["root", "api"])
def mount(request: pytest.FixtureRequest) -> str:
    return request.param


Command = Callable[..., Any]


@pytest.fixture
def command(client: httpx.AsyncClient, mount: str) -> Command:
    async def send(method: str, params: Any = None, thread: str = THREAD, **more: Any) -> Any:
        answer = await client.post(
            f"{mount}/threads/{thread}/commands",
            json={"id": 4, "method": method, "params": params or {}},
            **more,
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["id"] == 4
        return answer.json()

    return send


def waiting(records: MemoryRecords, *ids: str) -> None:
    """A thread that waits for answers."""
    records.add_thread(THREAD, graph_id="counter", assistant_id=COUNTER)
    records.threads[THREAD]["interrupts"] = {"task": [{"id": each, "value": "?"} for each in ids]}


class TestCommands:
    async def test_a_run_is_started_on_a_thread_that_does_not_exist_yet(
        self, command: Command, runtime: MemoryRuntime
    ) -> None:
        answer = await command(
            "run.start",
            {
                "assistant_id": "counter",
                "input": {"x": 1},
                "metadata": {"a": 1},
                "config": {"tags": ["t"], "configurable": {"thread_id": THREAD}},
            },
        )
        (request,) = runtime.requests
        assert answer["type"] == "success"
        assert answer["result"] == {"run_id": request.run_id}
        assert request.logged
        assert request.resumable
        assert request.create_thread
        assert request.multitask_strategy == "enqueue"
        kwargs = orjson.loads(request.kwargs)
        assert kwargs["input"] == {"x": 1}
        assert kwargs["subgraphs"] is True
        assert "lifecycle" in kwargs["stream_mode"]
        assert kwargs["config"]["tags"] == ["t"]

    async def test_the_strategy_is_spelled_as_clients_spell_it(
        self, command: Command, runtime: MemoryRuntime
    ) -> None:
        await command("run.start", {"assistant_id": "counter", "multitaskStrategy": "interrupt"})
        assert runtime.requests[0].multitask_strategy == "interrupt"

    async def test_an_input_on_a_thread_that_waits_is_the_answer(
        self, command: Command, runtime: MemoryRuntime, records: MemoryRecords
    ) -> None:
        waiting(records, "i1")
        await command("run.start", {"assistant_id": "counter", "input": "yes"})
        kwargs = orjson.loads(runtime.requests[0].kwargs)
        assert kwargs["input"] is None
        assert kwargs["command"] == {"resume": {"i1": "yes"}}

    async def test_an_earlier_checkpoint_is_no_answer(
        self, command: Command, runtime: MemoryRuntime, records: MemoryRecords
    ) -> None:
        waiting(records, "i1")
        back = {"configurable": {"checkpoint_id": str(uuid.uuid4())}}
        await command("run.start", {"assistant_id": "counter", "input": {"x": 1}, "config": back})
        assert orjson.loads(runtime.requests[0].kwargs)["command"] is None

    async def test_interrupts_are_answered_by_their_ids(
        self, command: Command, runtime: MemoryRuntime, records: MemoryRecords
    ) -> None:
        waiting(records, "i1", "i2")
        answers = [
            {"namespace": [], "interrupt_id": "i1", "response": 1},
            {"namespace": ["a:1"], "interrupt_id": "i2", "response": {"x": 2}},
        ]
        answer = await command(
            "input.respond", {"responses": answers, "update": {"y": 1}, "goto": "node"}
        )
        (request,) = runtime.requests
        assert answer["result"] == {"run_id": request.run_id}
        kwargs = orjson.loads(request.kwargs)
        assert kwargs["command"] == {
            "resume": {"i1": 1, "i2": {"x": 2}},
            "update": {"y": 1},
            "goto": "node",
        }
        assert kwargs["strict_resume"] is True

    @pytest.mark.parametrize(
        ("ids", "params", "code"),
        [
            ([], {"interrupt_id": "i1", "response": 1}, "no_such_interrupt"),
            (["i1"], {"interrupt_id": "i9", "response": 1}, "no_such_interrupt"),
            (["i1"], {"interrupt_id": "i1"}, "invalid_argument"),
            (["i1"], {"responses": []}, "invalid_argument"),
        ],
    )
    async def test_what_nobody_asked_is_not_answered(
        self,
        command: Command,
        runtime: MemoryRuntime,
        records: MemoryRecords,
        ids: list[str],
        params: Any,
        code: str,
    ) -> None:
        waiting(records, *ids)
        answer = await command("input.respond", params)
        assert (answer["type"], answer["error"]) == ("error", code)
        assert answer["message"]
        assert runtime.requests == []

    async def test_a_thread_without_a_run_asks_nothing(
        self, command: Command, records: MemoryRecords
    ) -> None:
        answer = {"interrupt_id": "i1", "response": 1}
        assert (await command("input.respond", answer))["error"] == "no_such_run"
        records.add_thread(THREAD)
        assert (await command("input.respond", answer))["error"] == "no_such_run"

    async def test_of_two_answers_to_one_interrupt_the_first_counts(
        self, command: Command, runtime: MemoryRuntime, records: MemoryRecords
    ) -> None:
        """Both were sent before either run has begun, so the thread's record shows the interrupt
        to both."""
        waiting(records, "i1", "i2")
        answer = {"interrupt_id": "i1", "response": "yes"}
        first = await command("input.respond", answer)
        second = await command("input.respond", {**answer, "response": "no"})
        assert first["type"] == "success"
        assert (second["type"], second["error"]) == ("error", "no_such_interrupt")
        assert len(runtime.requests) == 1
        other = await command("input.respond", {"interrupt_id": "i2", "response": "yes"})
        assert other["type"] == "success"

    async def test_an_answer_waits_for_no_other_that_ended_meanwhile(
        self, command: Command, runtime: MemoryRuntime, records: MemoryRecords
    ) -> None:
        """Between the look at the thread and the admission, another interrupt was answered."""
        waiting(records, "i1", "i2")
        taken: list[Any] = []

        def another(request: Any) -> None:
            if not taken:
                taken.append(request)
                waiting(records, "i2")

        runtime.admission = another
        answer = await command("input.respond", {"interrupt_id": "i2", "response": "yes"})
        assert answer["type"] == "success"
        assert len(runtime.requests) == 1

    async def test_an_answer_is_not_given_to_the_next_question_of_the_same_node(
        self, command: Command, runtime: MemoryRuntime, records: MemoryRecords
    ) -> None:
        waiting(records, "i1")

        def asks_again(request: Any) -> None:
            records.threads[THREAD]["interrupts"] = {"task": [{"id": "i1", "value": "really?"}]}

        runtime.admission = asks_again
        answer = await command("input.respond", {"interrupt_id": "i1", "response": "yes"})
        assert answer["error"] == "no_such_interrupt"
        assert runtime.requests == []

    async def test_an_input_beside_the_answer_is_that_of_the_next_run(
        self, command: Command, runtime: MemoryRuntime, records: MemoryRecords
    ) -> None:
        waiting(records, "i1")
        for text in ("yes", "and then?"):
            given = {"assistant_id": "counter", "input": text}
            assert (await command("run.start", given))["type"] == "success"
        answer, question = [orjson.loads(each.kwargs) for each in runtime.requests]
        assert answer["command"] == {"resume": {"i1": "yes"}}
        assert (question["command"], question["input"]) == (None, "and then?")

    async def test_a_repeated_answer_has_the_answer_of_the_first(
        self, command: Command, runtime: MemoryRuntime, records: MemoryRecords
    ) -> None:
        waiting(records, "i1")
        given = {"interrupt_id": "i1", "response": 1}
        key = {"idempotency-key": "k"}
        first = await command("input.respond", given, headers=key)
        waiting(records)
        assert await command("input.respond", given, headers=key) == first
        assert len(runtime.requests) == 1

    @pytest.mark.parametrize(
        ("method", "params", "code"),
        [
            ("nope", {}, "unknown_command"),
            ("run.start", {}, "invalid_argument"),
            ("run.start", {"assistant_id": "nope"}, "invalid_argument"),
            ("run.start", {"assistant_id": "counter", "stream_mode": "x"}, "invalid_argument"),
            ("run.start", {"assistant_id": "counter", "webhook": "nope"}, "invalid_argument"),
            ("input.inject", {"namespace": ["a"]}, "not_supported"),
            ("input.inject", {"message": {"role": "user"}}, "invalid_argument"),
            ("input.inject", {"message": {"role": "user", "content": "no"}}, "no_such_run"),
            ("subscription.subscribe", {"channels": ["values"]}, "not_supported"),
            ("agent.getTree", {}, "no_such_run"),
            ("agent.getTree", {"run_id": "x"}, "invalid_argument"),
            ("agent.getTree", {"run_id": str(uuid.uuid4())}, "no_such_run"),
            ("state.get", {}, "no_such_run"),
            ("state.listCheckpoints", {"limit": 0}, "invalid_argument"),
            ("state.fork", {}, "invalid_argument"),
            ("state.fork", {"checkpoint_id": "c"}, "no_such_checkpoint"),
        ],
    )
    async def test_a_refusal_has_a_code_and_a_sentence(
        self, command: Command, method: str, params: Any, code: str
    ) -> None:
        answer = await command(method, params)
        assert (answer["type"], answer["error"]) == ("error", code)
        assert answer["message"]

    async def test_a_command_for_a_malformed_thread_is_refused(self, client: Any) -> None:
        body = {"id": 1, "method": "state.get"}
        answer = await client.post("/threads/x/commands", json=body)
        assert answer.json()["error"] == "invalid_argument"

    @pytest.mark.parametrize(
        "body", [{}, [], 1, {"id": "1", "method": "x"}, {"id": 1}, {"id": True, "method": "x"}]
    )
    async def test_what_is_no_command_is_400(self, client: Any, mount: str, body: Any) -> None:
        answer = await client.post(f"{mount}/threads/{THREAD}/commands", json=body)
        assert answer.status_code == 400
        assert answer.json()["error"] == "invalid_argument"

    async def test_what_is_to_be_tried_again_has_its_own_status(
        self, client: Any, runtime: MemoryRuntime
    ) -> None:
        runtime.fail = Unavailable("Try again.")
        body = {"id": 1, "method": "run.start", "params": {"assistant_id": "counter"}}
        answer = await client.post(f"/threads/{THREAD}/commands", json=body)
        assert answer.status_code == 503
        runtime.fail = None

    async def test_a_repeated_command_starts_one_run(
        self, command: Command, runtime: MemoryRuntime
    ) -> None:
        given = {"assistant_id": "counter"}
        key = {"idempotency-key": "k"}
        first, second = [await command("run.start", given, headers=key) for _ in range(2)]
        assert first == second
        assert len(runtime.requests) == 1

    async def test_a_message_is_said_to_the_run_that_is_active(
        self, command: Command, records: MemoryRecords
    ) -> None:
        started = await command("run.start", {"assistant_id": "counter"})
        message = {"role": "user", "content": "no, the other file"}
        answer = await command("input.inject", {"namespace": [], "message": message})
        assert answer["result"] == {}
        ((_, said),) = records.inputs[started["result"]["run_id"]].values()
        assert orjson.loads(said.content)["input"] == {"messages": [message]}

    async def test_the_state_has_the_keys_that_are_asked_for(
        self, command: Command, runtime: MemoryRuntime, records: MemoryRecords
    ) -> None:
        waiting(records)
        checkpoint = {"checkpoint_id": "c1", "checkpoint_ns": ""}
        runtime.answer = orjson.dumps({"values": {"a": 1, "b": 2}, "checkpoint": checkpoint})
        answer = await command("state.get", {"namespace": [], "keys": ["a", "z"]})
        assert answer["result"] == {"values": {"a": 1}, "checkpoint": {"id": "c1", "ns": ""}}

    async def test_checkpoints_are_listed(
        self, command: Command, runtime: MemoryRuntime, records: MemoryRecords
    ) -> None:
        waiting(records)
        state = {"checkpoint": {"checkpoint_id": "c"}, "created_at": "t", "metadata": {"step": 3}}
        runtime.answer = orjson.dumps([state])
        answer = await command("state.listCheckpoints", {"limit": 5, "before": "x"})
        (found,) = answer["result"]["checkpoints"]
        assert found == {"id": "c", "timestamp": "t", "step": 3, "metadata": {"step": 3}}
        (question,) = runtime.questions
        assert (question.limit, question.before) == (5, {"checkpoint_id": "x"})

    async def test_a_fork_is_a_run_from_an_earlier_checkpoint(
        self, command: Command, runtime: MemoryRuntime, records: MemoryRecords
    ) -> None:
        waiting(records)
        runtime.answer = orjson.dumps({"created_at": "t", "values": {}})
        checkpoint_id = str(uuid.uuid4())
        answer = await command("state.fork", {"checkpoint_id": checkpoint_id, "input": {"x": 1}})
        (request,) = runtime.requests
        assert answer["result"] == {"run_id": request.run_id, "thread_id": THREAD}
        kwargs = orjson.loads(request.kwargs)
        assert kwargs["config"]["configurable"]["checkpoint_id"] == checkpoint_id
        assert kwargs["input"] == {"x": 1}

    async def test_a_tree_has_the_graphs_of_a_run(
        self, command: Command, runtime: MemoryRuntime, records: MemoryRecords
    ) -> None:
        started = await command("run.start", {"assistant_id": "counter"})
        run_id = started["result"]["run_id"]
        runtime.log(
            event("@lifecycle", {"event": "running", "graph_name": "counter"}, 1, run_id),
            event("@lifecycle|a:1", {"event": "started", "graph_name": "a"}, 2, run_id),
            event("@lifecycle|a:1|b:2", {"event": "started"}, 3, run_id),
            event("@lifecycle|a:1|b:2", {"event": "completed"}, 4, run_id),
            event("@lifecycle|a:1", {"event": "failed"}, 5, "another run"),
        )
        answer = await command("agent.getTree", {"run_id": run_id})
        inner = {"namespace": ["a:1", "b:2"], "status": "completed", "graph_name": "b"}
        child = {"namespace": ["a:1"], "status": "started", "graph_name": "a", "children": [inner]}
        assert answer["result"]["tree"] == {
            "namespace": [],
            "status": "running",
            "graph_name": "counter",
            "children": [child],
        }


# --- the event stream -----------------------------------------------------------------------------


class TestStream:
    @asynccontextmanager
    async def opened(self, live: httpx.AsyncClient, **body: Any) -> AsyncIterator[Any]:
        path = f"/threads/{THREAD}/stream/events"
        async with live.stream("POST", path, json={"channels": ["values"], **body}) as response:
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/event-stream")
            yield response

    async def told(self, response: Any, count: int) -> list[Any]:
        found: list[Any] = []
        async with asyncio.timeout(BOUND_S):
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    found.append(orjson.loads(line[6:]))
                    if len(found) == count:
                        return found
        raise AssertionError("The stream ended.")

    async def test_an_unknown_thread_is_waited_for(
        self, live: httpx.AsyncClient, runtime: MemoryRuntime
    ) -> None:
        async with self.opened(live, channels=["values", "lifecycle"]) as response:
            runtime.log(event("@lifecycle", {"event": "running"}), event("values|a:1", {"n": 1}, 2))
            runtime.log(event("updates", {}, 3), event(END, {"event": "completed"}, 4))
            first, second, third = await self.told(response, 3)
        assert first == {
            "type": "event",
            "event_id": f"r:{first_seq(1) + 1}",
            "seq": (1 << 32) | (1 << 24) | 1,
            "method": "lifecycle",
            "params": {"namespace": [], "timestamp": 5, "data": {"event": "running"}},
        }
        assert second["params"]["namespace"] == ["a:1"]
        assert (third["event_id"], third["method"]) == ("r:end", "lifecycle")
        assert first["seq"] < second["seq"] < third["seq"]

    async def test_what_was_there_comes_first(
        self, live: httpx.AsyncClient, runtime: MemoryRuntime
    ) -> None:
        runtime.log(event("values", {"n": 1}))
        async with self.opened(live) as response:
            runtime.log(event("values", {"n": 2}, 2))
            told = await self.told(response, 2)
        assert [each["params"]["data"]["n"] for each in told] == [1, 2]

    async def test_a_position_is_passed_on_and_what_is_lost_is_said(
        self, live: httpx.AsyncClient, runtime: MemoryRuntime
    ) -> None:
        async with self.opened(live, since=1) as response:
            (dropped,) = await self.told(response, 1)
        assert runtime.sinces == [1]
        assert dropped["method"] == "log.dropped"
        assert dropped["params"]["data"]["dropped_through_seq"] == 7

    async def test_a_node_is_told(self, live: httpx.AsyncClient, runtime: MemoryRuntime) -> None:
        runtime.log(event(event_name("messages", detail="agent"), {"event": "message-start"}))
        async with self.opened(live, channels=["messages"]) as response:
            (told,) = await self.told(response, 1)
        assert told["params"]["node"] == "agent"

    @pytest.mark.parametrize("body", [[], {}, {"channels": ["nope"]}, {"channels": "values"}])
    async def test_a_wrong_filter_is_400(self, client: Any, mount: str, body: Any) -> None:
        answer = await client.post(f"{mount}/threads/{THREAD}/stream/events", json=body)
        assert answer.status_code == 400
        assert answer.json()["detail"]

    async def test_a_stream_that_is_left_leaves_nothing(
        self, live: httpx.AsyncClient, runtime: MemoryRuntime
    ) -> None:
        async with self.opened(live):
            pass
        async with asyncio.timeout(BOUND_S):
            await runtime.closed.wait()


# --- the WebSocket --------------------------------------------------------------------------------


class Socket:
    """A WebSocket to an application, without a server."""

    def __init__(self, app: Any, path: str, headers: dict[str, str] | None = None) -> None:
        self._told: asyncio.Queue[Any] = asyncio.Queue()
        self.sent: asyncio.Queue[Any] = asyncio.Queue()
        scope = {
            "type": "websocket",
            "path": path,
            "root_path": "",
            "query_string": b"",
            "headers": [(k.encode(), v.encode()) for k, v in (headers or {}).items()],
            "client": ("test", 1),
        }
        self._told.put_nowait({"type": "websocket.connect"})
        self._serving = asyncio.create_task(app(scope, self._told.get, self.sent.put))

    async def next(self) -> Any:
        message = await asyncio.wait_for(self.sent.get(), BOUND_S)
        return orjson.loads(message["text"]) if message["type"] == "websocket.send" else message

    def say(self, text: str) -> None:
        self._told.put_nowait({"type": "websocket.receive", "text": text})

    async def ask(self, method: str, params: Any = None, number: int = 1) -> Any:
        asked = {"id": number, "method": method, "params": params or {}}
        self.say(orjson.dumps(asked).decode())
        return await self.next()

    async def close(self) -> None:
        self._told.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await asyncio.wait_for(self._serving, BOUND_S)


@asynccontextmanager
async def connected(app: Any, mount: str = "") -> AsyncIterator[Socket]:
    socket = Socket(app, f"{mount}/threads/{THREAD}/stream/events")
    assert (await socket.next())["type"] == "websocket.accept"
    try:
        yield socket
    finally:
        await socket.close()


class TestSocket:
    async def test_the_success_comes_before_what_it_replays(
        self, app: FastAPI, runtime: MemoryRuntime, mount: str
    ) -> None:
        runtime.log(event("values", {"n": 1}), event("updates", {}, 2))
        async with connected(app, mount) as socket:
            answer = await socket.ask("subscription.subscribe", {"channels": ["values"]})
            assert answer["type"] == "success"
            assert answer["result"]["replayed_events"] == 1
            assert (await socket.next())["params"]["data"] == {"n": 1}
            runtime.log(event("values", {"n": 2}, 3))
            assert (await socket.next())["params"]["data"] == {"n": 2}

    @pytest.mark.parametrize("is_replay", [True, False], ids=["replayed", "live"])
    async def test_the_end_of_a_run_comes_last_of_all_subscriptions(
        self, app: FastAPI, runtime: MemoryRuntime, is_replay: bool
    ) -> None:
        """A client that connects again subscribes to all at once, and goes by the first end."""
        events = [event("values", {"n": 1}), event(END, {"event": "completed"}, 2)]
        if is_replay:
            runtime.log(*events)
        async with connected(app) as socket:
            for number, channel in enumerate(["lifecycle", "values", "lifecycle"]):
                asked = {"id": number, "method": "subscription.subscribe"}
                asked["params"] = {"channels": [channel]}
                socket.say(orjson.dumps(asked).decode())
            told = [await socket.next() for _ in range(3 if not is_replay else 6)]
            if not is_replay:
                runtime.log(*events)
                told += [await socket.next() for _ in range(3)]
        assert [each["type"] for each in told].count("success") == 3
        methods = [each["method"] for each in told if each["type"] == "event"]
        assert methods == ["values", "lifecycle", "lifecycle"]

    async def test_an_ended_subscription_is_silent(
        self, app: FastAPI, runtime: MemoryRuntime
    ) -> None:
        async with connected(app) as socket:
            first = await socket.ask("subscription.subscribe", {"channels": ["values"]})
            await socket.ask("subscription.subscribe", {"channels": ["updates"]})
            ended = {"subscription_id": first["result"]["subscription_id"]}
            assert (await socket.ask("subscription.unsubscribe", ended))["result"] == {}
            again = await socket.ask("subscription.unsubscribe", ended)
            assert again["error"] == "no_such_subscription"
            runtime.log(event("values", {}), event("updates", {"u": 1}, 2))
            assert (await socket.next())["method"] == "updates"

    async def test_commands_are_answered(self, app: FastAPI, runtime: MemoryRuntime) -> None:
        async with connected(app) as socket:
            answer = await socket.ask("run.start", {"assistant_id": "counter"}, number=9)
            assert answer["id"] == 9
            assert answer["result"] == {"run_id": runtime.requests[0].run_id}
            refused = await socket.ask("nope")
            assert refused["error"] == "unknown_command"

    @pytest.mark.parametrize("text", ["no json", "[]", '{"id": "x"}', '{"method": "x"}'])
    async def test_what_is_no_command_is_refused(self, app: FastAPI, text: str) -> None:
        async with connected(app) as socket:
            socket.say(text)
            answer = await socket.next()
            assert (answer["type"], answer["id"] in (None, "x")) == ("error", True)
            assert (await socket.ask("nope"))["error"] == "unknown_command"  # it goes on

    async def test_a_server_that_stops_closes_it(self, app: FastAPI) -> None:
        socket = Socket(app, f"/threads/{THREAD}/stream/events")
        await socket.next()
        app.state.edge.connections.drain()
        closed = await socket.next()
        assert (closed["type"], closed["code"]) == ("websocket.close", 1001)
        await socket.close()

    async def test_a_malformed_thread_is_refused(self, app: FastAPI) -> None:
        socket = Socket(app, "/threads/x/stream/events")
        assert (await socket.next())["type"] == "websocket.close"
        await socket.close()

    async def test_a_socket_counts_as_an_open_answer(
        self, app: FastAPI, runtime: MemoryRuntime
    ) -> None:
        edge = replace(app.state.edge, usage=CallerUsage(Limits(streams=1)))
        app.state.edge = edge
        limited = LimitedCallers(app, edge=lambda: edge)
        path = f"/threads/{THREAD}/stream/events"
        first = Socket(limited, path)
        assert (await first.next())["type"] == "websocket.accept"
        second = Socket(limited, path)
        assert (await second.next())["type"] == "websocket.close"
        await second.close()
        await first.close()
        third = Socket(limited, path)
        assert (await third.next())["type"] == "websocket.accept"
        await third.close()
