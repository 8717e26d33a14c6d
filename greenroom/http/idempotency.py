"""Requests with an ``Idempotency-Key``: one that is repeated makes nothing a second time.

A route that creates passes its work to `once`. The work takes all its ids from the `Ids` that it
gets, so that a repetition has the same ones. `greenroom.core.idempotency` describes the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from starlette.requests import Request

from greenroom.core.errors import Conflict, GreenroomError, InvalidRequest
from greenroom.core.idempotency import OnceKey, Reservation
from greenroom.http.bodies import IDEMPOTENCY_KEY, body_digest
from greenroom.http.edge import dialect_of, edge_of
from greenroom.http.mounting import path_within
from greenroom.http.parameters import MAX_KEY, new_id, new_run_id

_TRIES = 10
"""How often others may free the key while a request is under way with it."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunIds:
    """The ids of a run that a request creates: of `Ids`.

    Attributes:
        thread_id: that of its thread.
        stateless: the thread is the run's own, and a new one.
        once: the key of the request; None without any.
        is_made: an earlier request with the key has created the run, though it may be deleted now.
    """

    run_id: str
    thread_id: str
    stateless: bool = False
    once: OnceKey | None = None
    is_made: bool = False


class Ids:
    """The ids of what a request makes.

    Args:
        reservation: of the request's key; None: it has no key, and each id is a new one.
    """

    def __init__(self, reservation: Reservation | None = None) -> None:
        self._reservation = reservation

    @property
    def once(self) -> OnceKey | None:
        return self._reservation.once if self._reservation is not None else None

    def new_id(self, number: int = 0) -> str:
        """Returns the id of an object.

        Args:
            number: which of several objects of the request.
        """
        return new_id() if self.once is None else self.once.new_id(number)

    def run_on(self, thread_id: str) -> RunIds:
        """Returns the ids of a run on a thread."""
        return self._run(thread_id)

    def stateless_run(self, number: int = 0, *, thread_id: str | None = None) -> RunIds:
        """Returns the ids of a run with a thread of its own.

        Args:
            number: which of several runs of the request.
            thread_id: that of its thread; None for any.
        """
        return self._run(thread_id or self.new_id(number), number, stateless=True)

    def _run(self, thread_id: str, number: int = 0, *, stateless: bool = False) -> RunIds:
        once = self.once
        run_id = new_run_id(thread_id) if once is None else once.new_run_id(thread_id, number)
        return RunIds(
            run_id=run_id,
            thread_id=thread_id,
            stateless=stateless,
            once=once,
            is_made=self.has_made(run_id),
        )

    def has_made(self, made_id: str) -> bool:
        """Returns whether an earlier request has made this, even if it is deleted by now."""
        return self._reservation is not None and made_id in self._reservation.made


NEW = Ids()
"""The ids of a request without a key."""


def deleted(what: str) -> Conflict:
    """Returns the refusal of a repetition whose object is gone."""
    return Conflict(
        f"The {what} that was created with this Idempotency-Key is deleted. Use another key to"
        " create a new one."
    )


async def once(request: Request, create: Callable[[Ids], Awaitable[T]]) -> T:
    """Performs the work of a route that creates, once for each key.

    Args:
        request: its body has been read.
        create: the work, with the ids for what it makes; it may be called again.

    Raises:
        InvalidRequest: the key is malformed, or belongs to another request.
        GreenroomError: as ``create`` does; a refusal frees the key.
    """
    key = _key_of(request)
    if key is None:
        return await create(NEW)
    edge = edge_of(request)
    keys = edge.records
    if not edge.gate.is_open:
        key = _own(edge.gate.identity, key)
    digest = _digest(request)
    refused: tuple[Reservation, GreenroomError] | None = None
    for _ in range(_TRIES):
        held = await keys.reserve(OnceKey(key=key, seed=new_id()), digest)
        if held.digest != digest:
            raise InvalidRequest(
                "This Idempotency-Key was used with another path or body. Use a new key for a new"
                " request, or repeat the first one without changes."
            )
        if refused is not None and refused[0] == held:
            raise refused[1]
        try:
            return await create(Ids(held))
        except GreenroomError as error:
            # After a 5xx it is unknown what was made: a repetition finds out.
            if error.status_hint >= 500 or await keys.release(held.once):
                raise
            # Something was made under the key, or another request has freed it.
            refused = (held, error)
    assert refused is not None
    raise refused[1]


def _key_of(request: Request) -> str | None:
    given = request.headers.getlist(IDEMPOTENCY_KEY)
    if not given:
        return None
    if len(given) > 1 or not 1 <= len(given[0]) <= MAX_KEY or not given[0].isprintable():
        raise InvalidRequest(
            f"Idempotency-Key must be one header of 1 to {MAX_KEY} printable characters."
        )
    return given[0]


def _own(identity: str, key: str) -> str:
    """Returns the key of one user: two users may choose the same one, and know nothing of it."""
    return "user:" + hashlib.sha256(f"{identity}\0{key}".encode()).hexdigest()


def _digest(request: Request) -> bytes:
    """Returns the digest of a request: its path, the same on both mounts, and its body."""
    path = path_within(request.scope).removeprefix(dialect_of(request).prefix).rstrip("/")
    return hashlib.sha256(path.encode() + b"\0" + body_digest(request)).digest()
