"""The ids of what a cron fires follow from the cron and the date, and name its registry."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from greenroom.core.crons import owner_of, run_of_firing, thread_of_firing
from greenroom.core.sharding import hash_slot_of_run, hash_slot_of_thread

crons = st.uuids().map(str)
dates = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@given(crons, dates)
def test_a_firing_has_the_same_ids_each_time(cron_id: str, due: datetime) -> None:
    elsewhere = due.astimezone(timezone(timedelta(hours=5)))
    thread_id = thread_of_firing(cron_id, due)
    assert thread_of_firing(cron_id, elsewhere) == thread_id
    run_id = run_of_firing(cron_id, due, thread_id)
    assert run_of_firing(cron_id, elsewhere, thread_id) == run_id
    for each in (thread_id, run_id):
        parsed = uuid.UUID(each)
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
        assert int(parsed) >> 80 == int(due.timestamp() * 1000)


@given(crons, dates)
def test_a_firing_belongs_to_the_registry_of_its_cron(cron_id: str, due: datetime) -> None:
    thread_id = thread_of_firing(cron_id, due)
    run_id = run_of_firing(cron_id, due, thread_id)
    owner = owner_of(cron_id, None)
    assert hash_slot_of_thread(thread_id) == hash_slot_of_thread(owner)
    assert hash_slot_of_run(run_id) == hash_slot_of_thread(owner)


def test_another_date_or_another_cron_gives_other_ids() -> None:
    due = datetime(2026, 11, 29, 12, tzinfo=UTC)
    ids = {
        thread_of_firing(cron_id, due + timedelta(seconds=second))
        for cron_id in ("0192d7d5-0000-7000-8000-000000000000", str(uuid.uuid4()))
        for second in range(5)
    }
    assert len(ids) == 10


def test_a_cron_on_a_thread_belongs_to_the_registry_of_the_thread() -> None:
    assert owner_of("c", "t") == "t"
    assert (
        run_of_firing("c", datetime(2026, 1, 1, tzinfo=UTC), "t")[:13]
        == run_of_firing("d", datetime(2026, 1, 1, tzinfo=UTC), "t")[:13]
    )
