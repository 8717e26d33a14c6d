"""The registry is killed while a cron fires: each date is one run, or told by the run after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.reliability.stage import Stage
from tests.reliability.witness import Effects, is_warm, process_titled
from tests.serving import Served
from tests.waiting import until


@pytest.fixture(autouse=True)
def nothing_stays_planned(stage: Stage) -> Iterator[None]:
    """The server is everybody's: what was not reached happens to nobody else."""
    yield
    stage.clear()


def date_of(run: dict[str, Any]) -> datetime:
    """The date of a firing, which its run's id tells."""
    return datetime.fromtimestamp((UUID(run["run_id"]).int >> 80) / 1000, UTC)


@pytest.mark.parametrize(
    "place",
    [
        "fired",
        pytest.param("fire", marks=pytest.mark.slow),
        pytest.param("admitted", marks=pytest.mark.slow),
        pytest.param("from outside", marks=pytest.mark.slow),
    ],
)
async def test_a_cron_whose_registry_is_killed_fires_each_date_once(
    http: httpx.AsyncClient, stage: Stage, effects: Effects, server: Served, place: str
) -> None:
    await is_warm(http)
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    path = f"/threads/{thread_id}/runs"
    if place != "from outside":
        stage.plan(place, "kill")
    body = {"assistant_id": "steps", "schedule": "* * * * * *", "input": effects.input(n=1)}
    created = await http.post(f"{path}/crons", json=body)
    assert created.status_code == 200, created.text
    cron = created.json()

    async def runs(number: int) -> list[dict[str, Any]] | None:
        found = (await http.get(path, params={"limit": 100})).json()[::-1]
        return found if len(found) >= number else None

    if place == "from outside":
        await until(lambda: runs(2))
        process_titled(server, "RegistryActor").kill()
        before = await runs(2) or []
    else:
        await until(lambda: stage.reached(place))
        before = []
    await until(lambda: runs(len(before) + 3))
    answer = await http.patch(f"/runs/crons/{cron['cron_id']}", json={"enabled": False})
    assert answer.status_code == 200, answer.text

    async def rests() -> bool:
        return (await http.get(f"/threads/{thread_id}")).json()["status"] == "idle"

    await until(rests)
    found = await runs(3)
    assert found is not None
    # From the first date on, each one is a run, or one of those that a late run stands for.
    expected = datetime.fromisoformat(cron["next_run_date"])
    for run in found:
        assert date_of(run) == expected
        expected += timedelta(seconds=1 + run["metadata"].get("cron_missed", 0))
        assert run["status"] == "success"
        assert len(effects.of(run["run_id"])) == 1
        assert set(effects.of(run["run_id"]).values()) == {1}
    assert expected == datetime.fromisoformat(answer.json()["next_run_date"])
    assert max(Counter(map(date_of, found)).values()) == 1
    assert (await http.delete(f"/runs/crons/{cron['cron_id']}")).status_code == 204
