"""A run actor at the end of its life stays until what it executed last was read."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from actors import run as run_module
from actors.pool import PoolSpec
from actors.run import RunActor, _Execution
from actors.setup import RunActorSetup
from greenroom.core.events import EventLog
from greenroom.core.runs import Ending, RunOrder, RunStatus
from tests.actors.doubles import BOUND_S


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch) -> RunActor:
    monkeypatch.setattr(run_module, "RETIRE_LOOK_S", 0.001)
    monkeypatch.setattr(run_module, "READ_AGAIN_S", 0.05)
    setup = RunActorSetup(
        name="run-1",
        namespace="n",
        dsn="",
        config_path=Path("langgraph.json"),
        registry="registry",
        spec=PoolSpec(graphs=("g",)),
        timeouts_s={},
        log_max_bytes=1_000_000,
        registry_silence_s=3600.0,
    )
    actor = RunActor(setup)
    order = RunOrder(
        run_id="a",
        thread_id="t",
        assistant_id="a",
        graph_id="g",
        attempt=1,
        kwargs=b"{}",
        temporary=True,
        resumable=False,
    )
    execution = _Execution(order=order, log=EventLog(1, 1_000_000))
    execution.log.append("values", b"{}", 1)
    actor._close(execution, Ending(status=RunStatus.SUCCESS, output=b"{}"))
    return actor


async def took_s(actor: RunActor) -> float:
    begun_s = time.monotonic()
    await asyncio.wait_for(actor.retire(), BOUND_S)
    return time.monotonic() - begun_s


@pytest.mark.parametrize("how", ["read", "outcome"])
async def test_it_goes_when_the_end_was_given(actor: RunActor, how: str) -> None:
    retiring = asyncio.create_task(actor.retire())
    await asyncio.sleep(0)
    assert not retiring.done()
    if how == "read":
        batch = await actor.read("a", 1, 0, 1.0, None, with_ids=False)
        assert batch.closed
    else:
        assert await actor.outcome("a", 1, 1.0) is not None
    await asyncio.wait_for(retiring, BOUND_S)


async def test_who_has_begun_to_read_is_waited_for_and_not_for_ever(
    actor: RunActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "UNDELIVERED_S", 0.4)
    actor._finished["a"].asked_s = time.monotonic()
    assert await took_s(actor) >= 0.4


async def test_what_nobody_asks_for_is_kept_for_a_moment(
    actor: RunActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "UNREAD_S", 0.2)
    monkeypatch.setattr(run_module, "UNDELIVERED_S", 3600.0)
    assert await took_s(actor) >= 0.2
