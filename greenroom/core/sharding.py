"""Which registry decides about a thread, and how a run's id tells it.

    thread id ──hash──> slot, 0 to 63 ──modulo the number of registries──> shard

A *shard* is one of several registries and the one writer for its threads. Nothing is looked up:
whoever knows a thread's id, or the number of a run that was minted for it (`for_thread`), knows its
slot. PostgreSQL computes the same (`greenroom.slot_of`, migration 0012). How many shards there are
is the server's choice; slots never change, so it can choose another number when it starts again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from greenroom.core.errors import GreenroomError

SLOTS = 64
_SLOT_BITS = SLOTS - 1


def slot_of_thread(thread_id: str) -> int:
    return hashlib.sha256(thread_id.encode()).digest()[0] & _SLOT_BITS


def slot_of_run(run_id: str) -> int:
    """The slot of the thread that a run's id was minted for; of an id from elsewhere, any slot."""
    return int(run_id[-2:], 16) & _SLOT_BITS


def for_thread(run_id: str, thread_id: str) -> str:
    """A run's id with its thread's slot in its last six bits, which are random in a UUIDv7: it
    stays one, and as late as it was."""
    last = int(run_id[-2:], 16) & ~_SLOT_BITS | slot_of_thread(thread_id)
    return f"{run_id[:-2]}{last:02x}"


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several registries: it has the slots that leave ``number`` when divided by ``of``."""

    number: int = 0
    of: int = 1

    @property
    def is_first(self) -> bool:
        """The one that also does what belongs to no thread."""
        return self.number == 0

    def has(self, thread_id: str) -> bool:
        return self.of == 1 or slot_of_thread(thread_id) % self.of == self.number

    def share(self, total: int) -> int:
        """What this shard may have of something that the whole server may have ``total`` of: they
        add up, but at least one of what there is, or its threads would never get any."""
        whole, rest = divmod(total, self.of)
        return max(whole + (self.number < rest), min(total, 1))


WHOLE = Shard()
"""The one registry of a server that has no other."""


class Misrouted(GreenroomError):
    """Another registry decides about this thread.

    Args:
        shards: how many there are.
        slot: of the thread, where the caller could not know it.
    """

    def __init__(self, message: str, shards: int, slot: int | None = None) -> None:
        Exception.__init__(self, message, shards, slot)

    def __str__(self) -> str:
        return self.message

    @property
    def shards(self) -> int:
        return self.args[1]

    @property
    def slot(self) -> int | None:
        return self.args[2]
