"""Failures of calls between actors, and the rules for repeating a call.

A call can fail in three ways:

    ActorGone      Ray reports that the actor is dead; a registry may be restarting
    Unreachable    the call or its answer was lost; the actor may have executed the call
    any other      the actor's own answer, including `Unavailable`

A caller repeats a call only after the first two, and only if the method is declared `repeatable`:
executing such a method twice has the same effect and the same answer as executing it once. If the
answer of any other method is lost, the caller gets `Uncertain` and must not repeat the call.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from ray.exceptions import (
    ActorUnavailableError,
    ActorUnschedulableError,
    NodeDiedError,
    RayActorError,
    RayError,
    RayTaskError,
)

from greenroom.core.errors import GreenroomError, Restarting, Unavailable, Unreachable

CALL_S = 90.0
"""The default time-out of a call: a registry may wait for its recovery, then for the database."""
LONG_CALL_S = 900.0
"""The time-out of calls whose duration depends on a thread's size or on the stop of a run."""
POLL_MARGIN_S = 10.0
"""The time-out of a long poll is its own wait plus this."""

T = TypeVar("T")
M = TypeVar("M", bound=Callable[..., Any])


class ActorGone(GreenroomError):
    """Ray reports that the actor is dead. The message is the actor's name."""

    @property
    def name(self) -> str:
        return self.message


class NodeGone(ActorGone):
    """The actor is dead because its node died."""


NO_ANSWER: tuple[type[GreenroomError], ...] = (ActorGone, Unreachable, Restarting)
"""The errors after which `repeat` calls again by default."""


def repeatable(method: M) -> M:
    """Declares that an actor's method may be executed twice."""
    method.is_repeatable = True  # type: ignore[attr-defined]
    return method


def long_poll(method: M) -> M:
    """Declares that a method only waits and reads. It is repeatable, and it is cancelled when its
    caller leaves."""
    method.is_long_poll = True  # type: ignore[attr-defined]
    return repeatable(method)


def is_repeatable(method: object) -> bool:
    return getattr(method, "is_repeatable", False)


def is_long_poll(method: object) -> bool:
    return getattr(method, "is_long_poll", False)


async def repeat(
    call: Callable[[], Awaitable[T]],
    *,
    on: tuple[type[Exception], ...] = NO_ANSWER,
    bound_s: float | None,
    pause_s: float = 0.05,
    longest_pause_s: float = 0.2,
) -> T:
    """Calls until there is an answer. Every retry loop of `actors` uses this function.

    Args:
        call: makes the call; it may be executed several times.
        on: the errors after which it is called again.
        bound_s: seconds of retries, counted from the first failure. None: without a limit; the
            caller gives the reason in a comment.
        pause_s: the pause after the first failure, in seconds. Each pause is shortened at random
            by up to a half, so that many callers do not retry at the same time.
        longest_pause_s: the upper limit of the growing pause, in seconds.

    Returns:
        the result of the first call that succeeds.

    Raises:
        Exception: the last error in ``on`` when the time is over; any other error at once.
    """
    loop = asyncio.get_running_loop()
    deadline_s: float | None = None
    while True:
        try:
            return await call()
        except on:
            now_s = loop.time()
            if bound_s is not None:
                deadline_s = now_s + bound_s if deadline_s is None else deadline_s
                if now_s >= deadline_s:
                    raise
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
        pause_s = min(pause_s * 1.5, longest_pause_s)


async def answer(ref: Awaitable[T], actor: str, *, within_s: float | None = None) -> T:
    """Waits for the answer of a call through Ray.

    Args:
        ref: the pending answer.
        actor: the actor's name, for errors.
        within_s: the time-out in seconds; None where the caller has its own bound, or where the
            method never answers (`alive`).

    Raises:
        ActorGone: the actor died, before or during the call.
        Unreachable: the actor was not reached or did not answer in time; it may have executed the
            call.
        Exception: the exception that the method raised.
    """
    deadline = asyncio.timeout(within_s)
    try:
        async with deadline:
            return await ref
    except RayTaskError as error:
        raise answered(_cause(error)) from None
    except TimeoutError as error:
        if not deadline.expired() and not isinstance(error, RayError):
            raise
        raise Unreachable(f"Actor {actor} did not answer within {within_s} s.") from None
    except RayError as error:
        raise no_answer(error, actor) from None


def no_answer(error: RayError, actor: str) -> GreenroomError:
    """Converts an error of Ray into `ActorGone`, `NodeGone` or `Unreachable`."""
    said = str(error).strip()
    if isinstance(error, ActorUnavailableError):
        return Unreachable(f"Actor {actor} cannot be reached: {said.partition(chr(10))[0]}")
    if isinstance(error, NodeDiedError) or "its node has died" in said:
        return NodeGone(actor)  # Ray gives the reason of an actor's death in the message only
    if isinstance(error, RayActorError | ActorUnschedulableError):
        return ActorGone(actor)
    name = type(error).__name__
    return Unreachable(f"Actor {actor} cannot be reached: {name}: {said.partition(chr(10))[0]}")


def answered(error: BaseException) -> BaseException:
    """Converts an exception that a method raised into the exception for its caller.

    If the *actor* fails to reach another actor, its caller gets `Unavailable`: the caller must not
    mistake this for its own failure to reach the actor.
    """
    if isinstance(error, ActorGone | Unreachable):
        return Unavailable("A process of the server is restarting. Try again in a moment.")
    return error


def _cause(error: RayTaskError) -> BaseException:
    """Returns the remote exception; the ``str()`` of Ray's wrapper is Ray's traceback."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, Exception) else error
