"""What is stored of a run's life, and read again."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from greenroom.core.scopes import SERVER, Scope
from greenroom.core.timeline import timeline
from greenroom.persistence.records import PostgresRecords
from tests.actors.doubles import until
from tests.actors.test_registry import (
    Theatre,
    make,  # noqa: F401 - fixtures
    theatre,  # noqa: F401
)

# ruff: noqa: F811 - fixtures are named as arguments


async def shown(theatre: Theatre, run_id: str, scope: Scope = SERVER) -> Any:
    life = await PostgresRecords(theatre.pool).stored_life("t", run_id, scope=scope)
    return None if life is None else timeline(life)


async def saved(
    theatre: Theatre, run_id: str, checkpoint_id: str, seen: Any, *, parent: str | None
) -> None:
    """A checkpoint of attempt 1."""
    checkpoint = {"ts": datetime.now(UTC).isoformat(), "versions_seen": {"__input__": {}, **seen}}
    metadata = {
        "run_id": run_id, "run_attempt": 1, "source": "loop", "step": int(checkpoint_id)
    }  # fmt: skip
    await theatre.execute(
        "INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id,"
        " checkpoint, metadata) VALUES ('t', '', %s, %s, %s, %s)",
        checkpoint_id,
        parent,
        json.dumps(checkpoint),
        json.dumps(metadata),
    )


async def test_the_history_has_each_attempt_and_why_it_was_lost(theatre: Theatre) -> None:
    run = await theatre.create()
    first = await theatre.executed(run.run_id)
    await saved(theatre, run.run_id, "1", {"think": {"x": 1}}, parent=None)
    await saved(theatre, run.run_id, "2", {"think": {"x": 1}, "act": {"x": 2}}, parent="1")
    theatre.cluster.die(first.name)
    second = await theatre.executed(run.run_id)
    await until(lambda: theatre.registry.run(run.run_id).attempt == 2)
    await until(lambda: theatre.registry.run(run.run_id).life.is_executed)
    found = await shown(theatre, run.run_id)
    assert [(each["actor"], each["pid"], each["why"]) for each in found["attempts"]] == [
        (first.name, 4711, "died"),
        (second.name, 4711, None),
    ]
    kinds = [each["kind"] for each in found["spans"]]
    assert kinds == ["queued", "running", "node", "node", "recovering", "running"]
    assert [each["name"] for each in found["spans"] if each["kind"] == "node"] == ["think", "act"]
    assert found["spans"][-1]["end"] is None
    await theatre.finish(run.run_id)
    found = await shown(theatre, run.run_id)
    assert found["status"] == "success"
    assert found["spans"][-1]["end"] == found["ended_at"]


async def test_the_life_of_a_run_is_within_the_scope_of_its_thread(theatre: Theatre) -> None:
    run = await theatre.create()
    assert await shown(theatre, run.run_id, Scope.of_filter({"owner": "ada"})) is None
    assert await shown(theatre, run.run_id) is not None
