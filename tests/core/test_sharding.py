"""Slots of threads and runs, and which registry has them."""

from __future__ import annotations

import pickle
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.core.sharding import (
    HASH_SLOTS,
    WHOLE,
    Misrouted,
    Shard,
    for_thread,
    hash_slot_of_run,
    hash_slot_of_thread,
)

threads = st.text(min_size=1, max_size=255) | st.uuids().map(str)
numbers = st.integers(min_value=0, max_value=(1 << 128) - 1)
counts = st.integers(min_value=1, max_value=HASH_SLOTS)


def uuid7_of(number: int) -> uuid.UUID:
    """A UUIDv7 with the other bits of a number."""
    versioned = number & ~(0xF << 76) | 7 << 76
    return uuid.UUID(int=versioned & ~(0b11 << 62) | 0b10 << 62)


@given(numbers, threads)
def test_a_runs_id_tells_its_threads_slot_and_stays_a_uuid7(number: int, thread: str) -> None:
    minted = for_thread(str(uuid7_of(number)), thread)
    assert hash_slot_of_run(minted) == hash_slot_of_thread(thread)
    found = uuid.UUID(minted)
    assert str(found) == minted
    assert (found.version, found.variant) == (7, uuid.RFC_4122)


@given(numbers, numbers, threads, threads)
def test_ids_stay_in_the_order_of_all_bits_but_the_slots(
    one: int, two: int, thread: str, other: str
) -> None:
    first, second = sorted([uuid7_of(one), uuid7_of(two)])
    if first.int >> 6 != second.int >> 6:
        assert for_thread(str(first), thread) < for_thread(str(second), other)
    assert uuid.UUID(for_thread(str(first), thread)).int >> 6 == first.int >> 6


@given(threads, counts)
def test_a_thread_is_of_exactly_one_shard(thread: str, of: int) -> None:
    (owner,) = [number for number in range(of) if Shard(number, of).has(thread)]
    assert owner == hash_slot_of_thread(thread) % of
    assert WHOLE.has(thread)


def test_threads_are_spread_over_all_slots() -> None:
    counted = [0] * HASH_SLOTS
    for number in range(HASH_SLOTS * 100):
        counted[hash_slot_of_thread(f"thread {number}")] += 1
    assert min(counted) > 50
    assert max(counted) < 200


def test_slots_are_for_ever() -> None:
    """They stand in the ids of runs that are stored."""
    assert [hash_slot_of_thread(each) for each in ("t", "u", "ü")] == [35, 11, 32]


@given(st.integers(min_value=0, max_value=1_000), counts)
def test_shares_add_up_and_nobody_goes_without(total: int, of: int) -> None:
    shares = [Shard(number, of).share(total) for number in range(of)]
    assert max(shares) - min(shares) <= 1
    if total == 0 or total >= of:
        assert sum(shares) == total
    else:
        assert shares == [1] * of
    assert WHOLE.share(total) == total


@pytest.mark.parametrize("hash_slot", [None, 7])
def test_who_is_sent_elsewhere_hears_where_in_another_process_too(hash_slot: int | None) -> None:
    said = pickle.loads(pickle.dumps(Misrouted("Not here.", 4, hash_slot)))
    assert (str(said), said.message, said.shards, said.hash_slot) == (
        "Not here.",
        "Not here.",
        4,
        hash_slot,
    )
