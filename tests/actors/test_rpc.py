"""Calls over a connection of their own: between two ends in one process, over a real socket."""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from actors.calls.answers import ActorGone, long_poll
from actors.calls.frames import NONCE_BYTES, pickled
from actors.calls.rpc import (
    AnswerTooLarge,
    Lost,
    NotSent,
    RpcAddress,
    RpcClient,
    RpcServer,
)
from greenroom.core.errors import Conflict, GreenroomError, Unavailable
from greenroom.core.runs import LARGE
from tests.run_records import request_of

BOUND_S = 30.0


class _Unpicklable(GreenroomError):
    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.held = lambda: None


class _Unreadable(GreenroomError):
    """Pickles, and cannot be made again: its arguments are not its constructor's."""

    def __init__(self, first: str, second: str = "") -> None:
        super().__init__(first)

    def __reduce__(self) -> Any:
        return _Unreadable, ()


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


class Callee:
    """What can be called."""

    def __init__(self) -> None:
        self.waiting = asyncio.Event()
        self.left = asyncio.Event()
        self.end = asyncio.Event()
        self.called = 0

    async def add(self, a: int, b: int) -> int:
        self.called += 1
        return a + b

    async def echo(self, value: Any) -> Any:
        return value

    async def refuse(self) -> None:
        raise Conflict("The thread is busy.")

    async def fail(self) -> None:
        raise KeyError("x")

    async def wait(self) -> None:
        self.waiting.set()
        try:
            await self.end.wait()
        finally:
            self.left.set()

    @long_poll
    async def poll(self) -> None:
        await self.wait()

    async def repeat_it(self, value: bytes) -> bytes:
        return value * 2

    async def give_a_function(self) -> Any:
        return lambda: None

    async def be_cancelled(self) -> None:
        raise asyncio.CancelledError

    async def refuse_badly(self, kind: str) -> None:
        raise (_Unpicklable if kind == "pickle" else _Unreadable)("no")

    async def say_nothing(self) -> None:
        raise Mute

    async def lose_somebody(self) -> None:
        raise ActorGone("run-1")


def served(callee: Callee, **bounds: int) -> RpcServer:
    methods = inspect.getmembers(callee, inspect.iscoroutinefunction)
    return RpcServer(dict(methods), **bounds)


@pytest.fixture
async def callee() -> AsyncIterator[Callee]:
    callee = Callee()
    yield callee
    callee.end.set()  # what nobody waits for any more goes on to its end


@pytest.fixture
async def address(callee: Callee) -> AsyncIterator[RpcAddress]:
    server = served(callee)
    yield await server.address("127.0.0.1")
    server.close()


@pytest.fixture
async def client(address: RpcAddress) -> AsyncIterator[RpcClient]:
    client = await RpcClient.connect(address)
    yield client
    client.close()


async def test_a_call_gives_what_the_method_gave(client: RpcClient) -> None:
    assert await client.call("add", (1, 2)) == 3


async def test_answers_find_their_calls_whatever_their_order(client: RpcClient) -> None:
    pending = asyncio.ensure_future(client.call("wait", ()))
    assert await asyncio.gather(*(client.call("add", (n, 1)) for n in range(500))) == [
        n + 1 for n in range(500)
    ]
    assert not pending.done()


@pytest.mark.parametrize("size", [0, 1, 65_536, 20_000_000])
async def test_a_message_may_be_of_any_size(client: RpcClient, size: int) -> None:
    value = os.urandom(size)
    assert await client.call("echo", (value,)) == value


@pytest.mark.parametrize("size", [10, LARGE, 40 * 1024 * 1024])
async def test_a_large_run_goes_beside_the_pickle_and_arrives_whole(
    client: RpcClient, size: int
) -> None:
    asked = [
        request_of(
            run_id=f"{number}",
            thread_id="t",
            assistant_id="a",
            graph_id="g",
            kwargs=os.urandom(size),
            metadata=b"{}",
            multitask_strategy="enqueue",
            create_thread=True,
        )
        for number in range(2)
    ]
    call = pickled(("echo", (asked,)))
    assert len(call.apart) == (0 if size < LARGE else 2)
    assert len(call.body) < LARGE
    assert await client.call("echo", (asked,)) == asked
    assert pickle.loads(pickle.dumps(asked)) == asked
    assert isinstance(pickle.loads(pickle.dumps(asked, protocol=5))[0].kwargs, bytes)


async def test_a_refusal_is_raised_as_itself(client: RpcClient) -> None:
    with pytest.raises(Conflict, match=r"^The thread is busy\.$"):
        await client.call("refuse", ())


async def test_another_exception_tells_its_class_and_what_it_said(client: RpcClient) -> None:
    with pytest.raises(RuntimeError, match="KeyError: 'x'"):
        await client.call("fail", ())


async def test_calls_under_way_are_lost_with_the_connection(
    client: RpcClient, callee: Callee
) -> None:
    pending = asyncio.ensure_future(client.call("wait", ()))
    await callee.waiting.wait()
    client.close()
    with pytest.raises(Lost):
        await pending
    async with asyncio.timeout(BOUND_S):
        await client.until_lost()
    with pytest.raises(Lost):
        await client.call("add", (1, 2))


async def test_a_caller_that_left_does_not_disturb_the_others(
    client: RpcClient, callee: Callee
) -> None:
    pending = asyncio.ensure_future(client.call("wait", ()))
    await callee.waiting.wait()
    pending.cancel()
    assert await client.call("add", (1, 2)) == 3


async def test_who_has_another_key_is_not_heard(address: RpcAddress, callee: Callee) -> None:
    with pytest.raises(Lost):
        await RpcClient.connect(replace(address, key=os.urandom(32)))
    assert callee.called == 0


async def test_a_server_that_does_not_know_the_key_is_not_believed() -> None:
    """It would have a pickle of its choice read here."""

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(os.urandom(NONCE_BYTES))
        await reader.readexactly(NONCE_BYTES + 32)
        writer.write(os.urandom(32))
        await reader.read()
        writer.close()

    async with await asyncio.start_server(pretend, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Lost):
            await RpcClient.connect(RpcAddress("127.0.0.1", port, os.urandom(32), frozenset()))


class Trap:
    """Its pickle makes a directory when it is read."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


async def test_nothing_is_unpickled_before_the_key_was_proven(
    address: RpcAddress, tmp_path: Any
) -> None:
    trap = pickle.dumps(Trap(str(tmp_path / "caught")))
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(os.urandom(NONCE_BYTES + 32) + struct.pack(">BQQ", 0, 1, len(trap)) + trap)
    async with asyncio.timeout(BOUND_S):
        assert len(await reader.read()) == NONCE_BYTES  # its nonce, then the end
    writer.close()
    assert not (tmp_path / "caught").exists()


async def test_the_key_is_in_no_log(address: RpcAddress) -> None:
    assert repr(address.key) not in repr(address)


# --- every call is answered -----------------------------------------------------------------------


async def answered(client: RpcClient, method: str, *args: Any) -> Any:
    async with asyncio.timeout(BOUND_S):
        return await client.call(method, args)


@pytest.mark.parametrize(
    ("method", "args", "error", "says"),
    [
        ("give_a_function", (), RuntimeError, "give_a_function"),
        ("be_cancelled", (), Unavailable, "cancelled"),
        ("refuse_badly", ("pickle",), RuntimeError, "refuse_badly"),
        ("refuse_badly", ("read",), RuntimeError, "cannot be read"),
        ("say_nothing", (), RuntimeError, "Mute"),
        ("no_such_method", (), RuntimeError, "no_such_method"),
    ],
)
async def test_a_call_is_answered_whatever_becomes_of_its_method(
    client: RpcClient, method: str, args: tuple[Any, ...], error: type[Exception], says: str
) -> None:
    """B15: its caller waited for ever, or all the calls of the connection were lost."""
    pending = asyncio.ensure_future(client.call("wait", ()))
    with pytest.raises(error, match=says):
        await answered(client, method, *args)
    assert await answered(client, "add", 1, 2) == 3
    assert not pending.done()
    pending.cancel()


async def test_arguments_that_cannot_be_read_fail_their_call_only(client: RpcClient) -> None:
    with pytest.raises(RuntimeError, match="cannot be read"):
        await answered(client, "echo", _Unreadable("x"))
    assert await answered(client, "add", 1, 2) == 3


async def test_that_the_actor_did_not_reach_another_one_is_an_answer(client: RpcClient) -> None:
    """Else its caller would take the actor itself for dead."""
    with pytest.raises(Unavailable):
        await answered(client, "lose_somebody")


# --- callers that leave ---------------------------------------------------------------------------


async def test_a_long_poll_ends_when_its_caller_leaves(client: RpcClient, callee: Callee) -> None:
    pending = asyncio.ensure_future(client.call("poll", ()))
    await callee.waiting.wait()
    pending.cancel()
    async with asyncio.timeout(BOUND_S):
        await callee.left.wait()
    assert await answered(client, "add", 1, 2) == 3


async def test_a_long_poll_ends_when_its_connection_is_lost(
    client: RpcClient, callee: Callee
) -> None:
    pending = asyncio.ensure_future(client.call("poll", ()))
    await callee.waiting.wait()
    client.close()
    with pytest.raises(Lost):
        await pending
    async with asyncio.timeout(BOUND_S):
        await callee.left.wait()


async def test_whatever_else_was_left_goes_on_to_its_end(client: RpcClient, callee: Callee) -> None:
    """A registry that is in the middle of a change must not be stopped there."""
    pending = asyncio.ensure_future(client.call("wait", ()))
    await callee.waiting.wait()
    pending.cancel()
    assert await answered(client, "add", 1, 2) == 3
    assert not callee.left.is_set()


# --- bounds ---------------------------------------------------------------------------------------


async def test_what_is_too_large_for_a_frame_is_refused_alone(callee: Callee) -> None:
    server = served(callee, max_bytes=100_000)
    client = await RpcClient.connect(await server.address("127.0.0.1"))
    pending = asyncio.ensure_future(client.call("wait", ()))
    with pytest.raises(NotSent, match="too much"):
        await answered(client, "echo", os.urandom(200_000))
    with pytest.raises(AnswerTooLarge):
        await answered(client, "repeat_it", b"x" * 60_000)
    assert await answered(client, "add", 1, 2) == 3
    assert not pending.done()
    client.close()
    server.close()
    with pytest.raises(Lost):
        await pending


async def test_a_frame_that_nobody_may_send_ends_its_connection(callee: Callee) -> None:
    server = served(callee, max_bytes=100_000)
    address = await server.address("127.0.0.1")
    client = await RpcClient.connect(replace(address, max_bytes=1_000_000))
    with pytest.raises(Lost):
        await answered(client, "echo", os.urandom(200_000))
    server.close()


async def test_calls_under_way_are_bounded(callee: Callee) -> None:
    server = served(callee, most_calls=3)
    client = await RpcClient.connect(await server.address("127.0.0.1"))
    waiting = [asyncio.ensure_future(client.call("poll", ())) for _ in range(3)]
    await callee.waiting.wait()
    with pytest.raises(Unavailable, match="More than 3 calls"):
        await answered(client, "add", 1, 2)
    waiting.pop().cancel()
    async with asyncio.timeout(BOUND_S):
        await callee.left.wait()
    assert await answered(client, "add", 1, 2) == 3
    for each in waiting:
        each.cancel()
    client.close()
    server.close()


async def test_who_is_not_read_keeps_its_answers_and_reads_no_more(callee: Callee) -> None:
    """A peer that stands still must not fill this process's memory with what it will not read."""
    server = served(callee)
    address = await server.address("127.0.0.1")
    client = await RpcClient.connect(address)
    transport = client.connection
    transport.pause_reading()
    asked = [asyncio.ensure_future(client.call("echo", (b"x" * 1_000_000,))) for _ in range(40)]
    await asyncio.sleep(0)
    assert client.kept  # the client is not read any more, and keeps its calls
    transport.resume_reading()
    async with asyncio.timeout(BOUND_S):
        assert {len(each) for each in await asyncio.gather(*asked)} == {1_000_000}
    assert not client.kept
    client.close()
    server.close()


async def test_a_machine_that_does_not_answer_is_noticed(client: RpcClient) -> None:
    connection = client.connection.get_extra_info("socket")
    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
