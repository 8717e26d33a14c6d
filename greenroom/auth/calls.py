"""Calls handlers of ``auth`` within a deadline, apart from the event loop of the gateway.

That loop sends all streams, so a handler that blocks must not run on it. Async handlers run on an
event loop of their own, in a thread of its own; other functions run in a pool of threads. If that
loop does not answer when a call is late, a handler blocks it: later calls get a new loop.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

THREADS = 16
SIGN_OF_LIFE_S = 0.5


class TooLate(Exception):
    """A handler has not returned within its deadline."""


class Calls(Protocol):
    async def call(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        """Calls a handler, and awaits its result.

        Raises:
            TooLate: it takes too long.
            Exception: whatever it raises.
        """
        ...


class Inline:
    """Calls handlers of our own, which block for microseconds: without a switch of threads."""

    async def call(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        result = function(**arguments)
        return await result if inspect.isawaitable(result) else result


class Apart:
    """Calls handlers of users.

    Args:
        within_s: the deadline of one call, in seconds.
    """

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s
        self._pool = ThreadPoolExecutor(THREADS, "auth")
        self._loop = _loop_of_its_own()

    async def call(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        loop = self._loop
        future: Future[Any]
        if inspect.iscoroutinefunction(function):
            future = asyncio.run_coroutine_threadsafe(function(**arguments), loop)
        else:
            future = self._pool.submit(self._called, function, arguments)
        deadline = asyncio.timeout(self._within_s)
        try:
            async with deadline:
                return await asyncio.wrap_future(future)
        except TimeoutError:
            if not deadline.expired():
                raise  # of the handler
            future.cancel()
            await self._look_after(loop)
            raise TooLate from None

    def _called(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        result = function(**arguments)
        if inspect.isawaitable(result):
            # E.g. of an object whose __call__ is async.
            return asyncio.run_coroutine_threadsafe(_awaited(result), self._loop).result()
        return result

    async def _look_after(self, loop: asyncio.AbstractEventLoop) -> None:
        alive: Future[None] = Future()
        loop.call_soon_threadsafe(lambda: alive.cancelled() or alive.set_result(None))
        try:
            await asyncio.wait_for(asyncio.wrap_future(alive), SIGN_OF_LIFE_S)
        except TimeoutError:
            if self._loop is loop:
                self._loop = _loop_of_its_own()


async def _awaited(result: Any) -> Any:
    return await result


def _loop_of_its_own() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="auth-loop", daemon=True).start()
    return loop
