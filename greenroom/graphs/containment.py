"""Containment: a ``BaseException`` of user code, such as ``SystemExit``, fails only its own run.

Theory of operation. An asyncio ``Task`` that ends with ``SystemExit`` or ``KeyboardInterrupt``
raises it again out of the event loop, which then stops: every run of the process would hang.
``GeneratorExit`` and other ``BaseException``s pass every ``except Exception`` of LangGraph and
Greenroom, so that a run would never end. Nodes, tools, callbacks and the clean-up of generators run
in tasks that LangGraph, LangChain and users create. So the loop contains every task that it creates
(`contain`): a task ends with a result, an ``Exception`` or a cancellation. Reducers and factories
run within Greenroom's own task; there `execute` does the same (`has_escaped`).

Two cases remain: a callback of the loop that raises (``loop.call_soon``), and ``loop.stop()``. Then
the loop's thread ends, and the actor's guard treats that as the actor's death.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, cast

from greenroom.core.raised import Escaped
from greenroom.langgraph_internals import make_no_eager_tasks


def has_escaped(error: BaseException) -> bool:
    """Returns whether user code raised a ``BaseException`` that is not an ``Exception``.

    Call it in the ``except`` block that caught the error: a ``GeneratorExit`` that was raised at
    that very place means that the coroutine is being closed.
    """
    if isinstance(error, Exception | asyncio.CancelledError):
        return False
    if isinstance(error, GeneratorExit):
        return error.__traceback__ is not None and error.__traceback__.tb_next is not None
    return True


def contain(loop: asyncio.AbstractEventLoop, owner: Callable[[], str] = lambda: "") -> None:
    """Makes each new task of the loop raise `Escaped` for a ``BaseException`` of user code.

    Args:
        owner: returns whose task is being made; `owner_of` tells it later.
    """
    make = loop.get_task_factory()

    def contained(loop: asyncio.AbstractEventLoop, coro: Any, **named: Any) -> asyncio.Future[Any]:
        # A plain generator is not a `Coroutine`, but Python 3.11 still runs it.
        is_one = isinstance(coro, Coroutine)
        inside = _Contained(cast(Coroutine[Any, Any, Any], coro), owner()) if is_one else coro
        if make is not None:
            return make(loop, inside, **named)
        return asyncio.Task(inside, loop=loop, **named)

    loop.set_task_factory(contained)
    make_no_eager_tasks()


def owner_of(task: asyncio.Task[Any]) -> str:
    """Returns whose task it is, as `contain` was told; empty for nobody's."""
    inside = task.get_coro()
    return inside.owner if isinstance(inside, _Contained) else ""


class _Contained(Coroutine[Any, Any, Any]):
    """Wraps a coroutine so that it raises only an ``Exception`` or a cancellation.

    An ``async def`` would not do: cancelled before its begin, it never awaits the coroutine in it,
    and Python warns about that.
    """

    __slots__ = ("_inside", "owner")

    def __init__(self, inside: Coroutine[Any, Any, Any], owner: str) -> None:
        self._inside = inside
        self.owner = owner

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
        # The coroutine's name, code and frame, for debuggers.
        return getattr(self._inside, name)
