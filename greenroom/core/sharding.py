"""Maps each thread, and each run id, to the registry that decides about it.

    thread id ──hash──> hash slot, 0 to 63 ──modulo the number of registries──> shard

A *shard* is one of several registries, and the one writer for its threads. The mapping needs no
lookup: the hash slot follows from the thread's id, and from the id of a run that was minted for the
thread (`for_thread`). PostgreSQL computes the same slot (`greenroom.slot_of`, migration 0012). A
server chooses its number of shards when it starts; the hash slot of a thread never changes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from greenroom.core.errors import GreenroomError

HASH_SLOTS = 64
_HASH_SLOT_BITS = HASH_SLOTS - 1


def hash_slot_of_thread(thread_id: str) -> int:
    """Returns the hash slot of a thread."""
    return hashlib.sha256(thread_id.encode()).digest()[0] & _HASH_SLOT_BITS


def hash_slot_of_run(run_id: str) -> int:
    """Returns the hash slot of the thread for which a run's id was minted.

    For an id that `for_thread` did not mint, the result is arbitrary.
    """
    return int(run_id[-2:], 16) & _HASH_SLOT_BITS


def for_thread(run_id: str, thread_id: str) -> str:
    """Stores the thread's hash slot in the run id's last six (random) bits.

    Args:
        run_id: a UUIDv7.

    Returns:
        a valid UUIDv7 with the same timestamp.
    """
    last = int(run_id[-2:], 16) & ~_HASH_SLOT_BITS | hash_slot_of_thread(thread_id)
    return f"{run_id[:-2]}{last:02x}"


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several registries: it has the hash slots that leave ``number`` modulo ``of``.

    Attributes:
        number: the number of this shard, from 0.
        of: the number of shards.
    """

    number: int = 0
    of: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this shard also does the work that belongs to no thread."""
        return self.number == 0

    def has(self, thread_id: str) -> bool:
        """Returns whether the thread belongs to this shard."""
        return self.of == 1 or hash_slot_of_thread(thread_id) % self.of == self.number

    def share(self, total: int) -> int:
        """Returns this shard's part of a limit of the whole server.

        The parts of all shards add up to ``total``, but each part is at least 1 unless ``total`` is
        0, since the shard's threads would get nothing otherwise.
        """
        whole, rest = divmod(total, self.of)
        return max(whole + (self.number < rest), min(total, 1))


WHOLE = Shard()
"""The only registry of a server without sharding."""


class Misrouted(GreenroomError):
    """Another registry decides about this thread.

    Args:
        shards: the number of shards.
        hash_slot: the thread's hash slot, if the caller could not know it.
    """

    def __init__(self, message: str, shards: int, hash_slot: int | None = None) -> None:
        Exception.__init__(self, message, shards, hash_slot)

    def __str__(self) -> str:
        return self.message

    @property
    def shards(self) -> int:
        return self.args[1]

    @property
    def hash_slot(self) -> int | None:
        return self.args[2]
