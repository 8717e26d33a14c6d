"""User code that raises what is no ``Exception`` fails its own run, and nothing else.

Theory of operation. A ``Task`` of asyncio that ends with ``SystemExit`` or ``KeyboardInterrupt``
raises it once more out of the event loop, which then stops: every run of the process would stand
still for ever. ``GeneratorExit`` and other ``BaseException``s pass every ``except Exception`` of
LangGraph's and ours, so that a run would never end. Nodes, tools, callbacks and generators'
clean-up run in tasks that LangGraph, LangChain and users make. So the loop itself makes every task
of it contained (`contain`): what leaves a task is an ``Exception`` or a cancellation. Reducers and
factories run within our own task; there `execute` does the same (`has_escaped`).

What is left is a callback of the loop that raises (``loop.call_soon``), and ``loop.stop()``. Then
the loop's thread ends, which the actor's guard takes for the death that it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, cast

from greenroom.core.raised import Escaped
from greenroom.langgraph_internals import make_no_eager_tasks


def has_escaped(error: BaseException) -> bool:
    """Whether user code raised what is no ``Exception``; asked in the ``except`` that caught it.

    A ``GeneratorExit`` also says that a coroutine is closed, and then it was raised at the very
    place where it is caught.
    """
    if isinstance(error, Exception | asyncio.CancelledError):
        return False
    if isinstance(error, GeneratorExit):
        return error.__traceback__ is not None and error.__traceback__.tb_next is not None
    return True


def contain(loop: asyncio.AbstractEventLoop) -> None:
    """From now on, what is raised in a task of the loop and is no ``Exception`` is an `Escaped`."""
    make = loop.get_task_factory()

    def contained(loop: asyncio.AbstractEventLoop, coro: Any, **named: Any) -> asyncio.Future[Any]:
        # A plain generator is no coroutine for us, but Python 3.11 still runs it.
        is_one = isinstance(coro, Coroutine)
        inside = _Contained(cast(Coroutine[Any, Any, Any], coro)) if is_one else coro
        if make is not None:
            return make(loop, inside, **named)
        return asyncio.Task(inside, loop=loop, **named)

    loop.set_task_factory(contained)
    make_no_eager_tasks()


class _Contained(Coroutine[Any, Any, Any]):
    """A coroutine as it is, but what it raises is an ``Exception`` or a cancellation.

    It is no ``async def``: one that is cancelled before it begins never awaits what is in it, and
    Python warns about that.
    """

    __slots__ = ("_inside",)

    def __init__(self, inside: Coroutine[Any, Any, Any]) -> None:
        self._inside = inside

    def send(self, value: Any) -> Any:
        try:
            return self._inside.send(value)
        except (Exception, asyncio.CancelledError):
            raise
        except BaseException as error:
            raise Escaped(error) from error

    def throw(self, *raised: Any) -> Any:
        try:
            return self._inside.throw(*raised)
        except (Exception, asyncio.CancelledError):
            raise
        except BaseException as error:
            raise Escaped(error) from error

    def close(self) -> None:
        self._inside.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._inside.__await__()

    def __getattr__(self, name: str) -> Any:
        # Its name, code and frame, for whoever looks at a task.
        return getattr(self._inside, name)
