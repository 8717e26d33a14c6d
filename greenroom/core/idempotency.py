"""Requests that a client may repeat: the keys of ``Idempotency-Key``.

    reserve ──> the ids of all that the request makes follow from the key's seed
    create  ──> in one commit: the object, and the note that its id was made
    repeat  ──> the same ids: the object is there already, or was made and is deleted
    refuse  ──> release, unless something was made: the key is free again

An object is only made while its key is reserved with the same seed and its id was not made before.
So a request that arrives twice at once, at two gateways, makes one object, and so does one that is
repeated after the death of a process, or after the object's deletion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from greenroom.core.identity import uuid7_of
from greenroom.core.sharding import for_thread

KEPT_S = 24 * 3600.0
"""How long a key is kept at least, in seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OnceKey:
    """A reserved key, as it travels with what is made under it.

    Attributes:
        key: the client's key.
        seed: UUIDv7 of this reservation; a key that was released and reserved again has another.
    """

    key: str
    seed: str

    def new_id(self, number: int = 0) -> str:
        """Returns the id of an object of the request: a UUIDv7, the same for each repetition.

        Args:
            number: which of several objects.
        """
        return uuid7_of(self._at_ms, f"object {number} of {self.seed}")

    def new_run_id(self, thread_id: str, number: int = 0) -> str:
        """Returns the id of a run of the request, minted for its thread; as `new_id`."""
        return for_thread(uuid7_of(self._at_ms, f"run {number} of {self.seed}"), thread_id)

    @property
    def _at_ms(self) -> int:
        return int(self.seed.replace("-", "")[:12], 16)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reservation:
    """A key as it is stored.

    Attributes:
        digest: SHA-256 of the request that reserved the key.
        made: the ids that were made under the key, also of what is deleted by now.
    """

    once: OnceKey
    digest: bytes
    made: frozenset[str]


class Keys(Protocol):
    """The keys, as the HTTP edge sees them."""

    async def reserve(self, once: OnceKey, digest: bytes) -> Reservation:
        """Reserves a key, or returns the reservation that it has; durable on return.

        Args:
            once: the key, with the seed of a new reservation.
            digest: as of `Reservation`.
        """
        ...

    async def release(self, once: OnceKey) -> bool:
        """Frees a key, unless something was made under it; returns whether it did.

        From then on nothing is made with this seed.
        """
        ...

    async def note_made(self, once: OnceKey, made_id: str) -> bool:
        """Notes that an object was made under a key, for what is not made in the same commit.

        Returns:
            False if the key is not reserved with this seed any more; then nothing is noted.
        """
        ...
