"""Calls over a connection of their own: between two ends in one process, over a real socket."""

from __future__ import annotations

import asyncio
import os
import pickle
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from actors.rpc import NONCE_BYTES, Lost, RpcAddress, RpcClient, RpcServer
from greenroom.core.errors import Conflict

BOUND_S = 10.0


class Callee:
    """What can be called."""

    def __init__(self) -> None:
        self.waiting = asyncio.Event()
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
        await asyncio.Event().wait()


@pytest.fixture
def callee() -> Callee:
    return Callee()


@pytest.fixture
async def address(callee: Callee) -> AsyncIterator[RpcAddress]:
    names = ("add", "echo", "refuse", "fail", "wait")
    server = RpcServer({name: getattr(callee, name) for name in names})
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
    pending = client.call("wait", ())
    assert await asyncio.gather(*(client.call("add", (n, 1)) for n in range(500))) == [
        n + 1 for n in range(500)
    ]
    assert not pending.done()


@pytest.mark.parametrize("size", [0, 1, 65_536, 20_000_000])
async def test_a_message_may_be_of_any_size(client: RpcClient, size: int) -> None:
    value = os.urandom(size)
    assert await client.call("echo", (value,)) == value


async def test_a_refusal_is_raised_as_itself(client: RpcClient) -> None:
    with pytest.raises(Conflict, match=r"^The thread is busy\.$"):
        await client.call("refuse", ())


async def test_another_exception_tells_its_class_and_what_it_said(client: RpcClient) -> None:
    with pytest.raises(RuntimeError, match="KeyError: 'x'"):
        await client.call("fail", ())


async def test_calls_under_way_are_lost_with_the_connection(
    client: RpcClient, callee: Callee
) -> None:
    pending = client.call("wait", ())
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
    pending = client.call("wait", ())
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
    writer.write(os.urandom(NONCE_BYTES + 32) + struct.pack(">Q", len(trap)) + trap)
    async with asyncio.timeout(BOUND_S):
        assert len(await reader.read()) == NONCE_BYTES  # its nonce, then the end
    writer.close()
    assert not (tmp_path / "caught").exists()


async def test_the_key_is_in_no_log(address: RpcAddress) -> None:
    assert repr(address.key) not in repr(address)
