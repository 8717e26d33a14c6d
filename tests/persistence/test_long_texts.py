"""A long text of a state is stored once, and not in each checkpoint."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint

from greenroom.persistence import apart
from greenroom.persistence.apart import INLINE_CHARACTERS
from greenroom.persistence.checkpoints import PooledSaver
from greenroom.persistence.database import Pool
from tests.persistence.test_checkpoints import at, rows

LONG = "é" * (INLINE_CHARACTERS + 1)


async def put(saver: PooledSaver, number: int, values: dict[str, Any], *new: str) -> None:
    checkpoint = empty_checkpoint()
    checkpoint["id"] = f"1f0{number:05}-0000-6000-8000-000000000000"
    checkpoint["channel_values"] = values
    versions: Any = {name: f"{1 if name not in new else number}" for name in values}
    checkpoint["channel_versions"] = versions
    changed = {name: versions[name] for name in new}
    await saver.aput(at("t"), checkpoint, {"source": "loop", "step": number}, changed)


async def newest(saver: PooledSaver) -> dict[str, Any]:
    found = await saver.aget_tuple(at("t"))
    assert found is not None
    return found.checkpoint["channel_values"]


async def test_a_long_text_is_stored_once_for_all_checkpoints(pool: Pool) -> None:
    saver = PooledSaver(pool)
    await put(saver, 1, {"text": LONG, "n": 1}, "text", "n")
    for number in range(2, 5):
        await put(saver, number, {"text": LONG, "n": number}, "n")
        assert await newest(saver) == {"text": LONG, "n": number}
    stored = await rows(pool, "SELECT octet_length(checkpoint::text) AS bytes FROM checkpoints")
    assert max(row["bytes"] for row in stored) < 1000
    assert len(await rows(pool, "SELECT 1 FROM checkpoint_blobs")) == 1


async def test_a_text_that_an_older_server_stored_in_its_checkpoints_stays(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(apart, "INLINE_CHARACTERS", 10 * len(LONG))
        await put(PooledSaver(pool), 1, {"text": LONG, "n": 1}, "text", "n")
    assert not await rows(pool, "SELECT 1 FROM checkpoint_blobs")
    for number in (2, 3):  # each by a saver of its own, as by two runs
        await put(PooledSaver(pool), number, {"text": LONG, "n": number}, "n")
        assert await newest(PooledSaver(pool)) == {"text": LONG, "n": number}
    every = [each.checkpoint["channel_values"] async for each in PooledSaver(pool).alist(at("t"))]
    assert every == [{"text": LONG, "n": number} for number in (3, 2, 1)]
