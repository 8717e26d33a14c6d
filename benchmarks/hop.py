"""Measures one call between two processes: over `actors.calls.rpc` and over ``grpc.aio``.

    python -m benchmarks.hop

Two processes with uvloop, as actors have it, exchange a pickled message of 300 bytes: first one
call at a time, then 64 concurrent calls. The rounds of both transports alternate, so that other
load on the machine affects both alike. On a loaded machine compare the CPU per call of both
processes together. The result is decision 1 in `docs/decisions/`.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import pickle
import statistics
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection

import grpc
import grpc.aio
import uvloop

from actors.calls.rpc import RpcAddress, RpcClient, RpcServer

PAYLOAD = b"x" * 270
ROUNDS = 10
CALLS = {1: 500, 64: 4000}

Call = Callable[[], Awaitable[object]]


class _Handler(grpc.GenericRpcHandler):
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        async def echo(request: bytes, _: object) -> bytes:
            _method, args = pickle.loads(request)
            return pickle.dumps((True, args[0]), protocol=5)

        return grpc.unary_unary_rpc_method_handler(echo)


async def _echo(value: bytes) -> bytes:
    return value


async def _serve(pipe: Connection) -> None:
    address = await RpcServer({"echo": _echo}).address("127.0.0.1")
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    pipe.send((address, port))
    while await asyncio.to_thread(pipe.recv):
        pipe.send(time.process_time())


async def _round(call: Call, under_way: int, many: int) -> list[float]:
    took: list[float] = []

    async def caller() -> None:
        for _ in range(many // under_way):
            began = time.perf_counter()
            await call()
            took.append(time.perf_counter() - began)

    await asyncio.gather(*(caller() for _ in range(under_way)))
    return took


async def _measure(pipe: Connection) -> None:
    address, port = pipe.recv()
    assert isinstance(address, RpcAddress)
    client = await RpcClient.connect(address)
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    unary = channel.unary_unary("/greenroom/echo")

    async def ours() -> object:
        return await client.call("echo", (PAYLOAD,))

    async def over_grpc() -> object:
        return pickle.loads(await unary(pickle.dumps(("echo", (PAYLOAD,)), protocol=5)))

    def cpu_s() -> float:
        pipe.send(True)
        return time.process_time() + pipe.recv()

    ways: dict[str, Call] = {"actors.calls.rpc": ours, "grpc.aio": over_grpc}
    for call in ways.values():
        await _round(call, 8, 400)
    print("| way | under way | p50 ms | p99 ms | CPU ms a call |\n|---|---|---|---|---|")
    for under_way, many in CALLS.items():
        took: dict[str, list[float]] = {way: [] for way in ways}
        used = dict.fromkeys(ways, 0.0)
        for _ in range(ROUNDS):
            for way, call in ways.items():
                before = cpu_s()
                took[way] += await _round(call, under_way, many)
                used[way] += cpu_s() - before
        for way, times in took.items():
            p = statistics.quantiles(times, n=100)
            cpu = used[way] / len(times)
            print(
                f"| {way} | {under_way} | {p[49] * 1e3:.3f} | {p[98] * 1e3:.3f} | {cpu * 1e3:.3f} |"
            )
    await channel.close()
    client.close()
    pipe.send(False)


def _server(pipe: Connection) -> None:
    uvloop.run(_serve(pipe))


if __name__ == "__main__":
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_server, args=(there,))
    process.start()
    uvloop.run(_measure(here))
    process.join()
