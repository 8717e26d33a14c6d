"""What a call between actors means when it is not answered, and when it may be made again.

Three things can stand in the place of an answer:

    ActorGone      Ray says that the actor is dead; of a registry, that it is between two lives
    Unreachable    the actor could not be asked, or its answer did not come; it may have done it
    any other      the actor's own answer, also when that is `Unavailable`

Only the first two are asked again, and only methods that are declared `repeatable`: executing such
a method twice leaves what executing it once leaves, and gives the same answer. Of any other method
that was lost on its way, `Uncertain` says so, and nobody asks again.
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
"""The longest that an answer takes, of whatever does not say otherwise: a registry may wait for its
recovery, then for the database."""
LONG_CALL_S = 900.0
"""The same of what takes as long as a thread is large, or as a run takes to stop."""
POLL_MARGIN_S = 10.0
"""How much longer than it was told to wait a long poll may take."""

T = TypeVar("T")
M = TypeVar("M", bound=Callable[..., Any])


class ActorGone(GreenroomError):
    """The actor is dead; Ray said so. Carries the actor's name."""

    @property
    def name(self) -> str:
        return self.message


class NodeGone(ActorGone):
    """It is dead because its whole node is."""


NO_ANSWER: tuple[type[GreenroomError], ...] = (ActorGone, Unreachable, Restarting)
"""What `repeat` asks again after, unless it is told otherwise."""


def repeatable(method: M) -> M:
    """Declares that a method of an actor may be executed twice; its docstring says why."""
    method.is_repeatable = True  # type: ignore[attr-defined]
    return method


def long_poll(method: M) -> M:
    """Declares that a method only waits and reads: it is repeatable, and may be cancelled when its
    caller has left."""
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
    """Calls until there is an answer; the one place that does so.

    Args:
        call: makes the call; it may be executed several times.
        on: what is no answer.
        bound_s: how long it is tried, from the first failure on. None: for ever, which its caller
            gives a reason for.
        pause_s, longest_pause_s: the pause after the first failure, and what it grows to. Each is
            shortened by up to a half at random, so that many callers do not come back together.

    Raises:
        what ``call`` raised last, when the time is over; at once what is not in ``on``.
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
        within_s: how long; None where the caller bounds it, or where it never comes (`alive`).

    Raises:
        ActorGone: the actor died, before or during the call.
        Unreachable: it was not reached, or did not answer in time; it may have done what was asked.
        Exception: what the actor raised, itself.
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
    """What one of Ray's errors means: the actor is dead, or was not reached."""
    said = str(error).strip()
    if isinstance(error, ActorUnavailableError):
        return Unreachable(f"Actor {actor} cannot be reached: {said.partition(chr(10))[0]}")
    if isinstance(error, NodeDiedError) or "its node has died" in said:
        return NodeGone(actor)  # Ray says why an actor has died in its message only
    if isinstance(error, RayActorError | ActorUnschedulableError):
        return ActorGone(actor)
    name = type(error).__name__
    return Unreachable(f"Actor {actor} cannot be reached: {name}: {said.partition(chr(10))[0]}")


def answered(error: BaseException) -> BaseException:
    """What a caller is to see of an exception that a method raised.

    That the *actor* did not reach another one is an answer, and must not be taken for the caller's
    own failure to reach the actor.
    """
    if isinstance(error, ActorGone | Unreachable):
        return Unavailable("A process of the server is restarting. Try again in a moment.")
    return error


def _cause(error: RayTaskError) -> BaseException:
    """What was raised on the other side; its ``str()`` on this side would be Ray's traceback."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, Exception) else error
