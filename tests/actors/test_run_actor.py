"""What arrives at a run actor on several loops, in any order."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.common.placement import PoolSpec
from actors.common.setup import RunActorSetup
from actors.run.actor import EARLY_KEPT, RunActor
from actors.run.deps import Deps
from greenroom.core.errors import Fenced
from greenroom.core.runs import RunOrder
from tests.actors.doubles import BOUND_S, until
from tests.actors.test_attempt import Actor, Gated, done

ROOT = Path(__file__).parents[2]


def executing(around: Actor) -> RunActor:
    """Returns an actor that executes the graph of a double, and nothing of its own."""

    def deps(actor: RunActor) -> Deps:
        around.changes |= {"finished": actor.finish, "left": actor.shelf.drop}
        return around.deps()

    return made(deps)


def made(deps: Callable[[RunActor], Deps] | None = None, **given_too: Any) -> RunActor:
    given: dict[str, Any] = {
        "name": "run-1",
        "namespace": "n",
        "registry": "registry",
        "spec": PoolSpec(graphs=("g",), runs_per_actor=10),
        "dsn": "",
        "config_path": None,
        "log_max_bytes": 1_000_000,
        "registry_silence_s": 1e9,
        "timeouts_s": {},
        **given_too,
    }
    known = RunActorSetup.__dataclass_fields__
    setup = RunActorSetup(**{key: value for key, value in given.items() if key in known})
    return RunActor(setup, deps)


def an_order(attempt: int = 1) -> RunOrder:
    return Actor(done).attempt(run_id=str(uuid.uuid4()), attempt=attempt).order


async def ended(actor: RunActor) -> None:
    await until(lambda: not actor.shelf.current)


async def test_a_cancel_that_comes_before_its_start_keeps_what_it_said() -> None:
    around = Actor(done)
    actor = executing(around)
    order = an_order()
    await actor.cancel(order.run_id, 1, False)
    await actor.start_many(1, [order])
    await ended(actor)
    assert [report.status for report in around.reports] == ["interrupted"]
    assert not around.values, "a rollback keeps the values from before it"
    assert not actor.cancelled_early


async def test_a_cancel_of_an_attempt_that_is_over_is_forgotten() -> None:
    actor = executing(Actor(done))
    order = an_order(attempt=2)
    await actor.start_many(1, [order])
    await ended(actor)
    await actor.cancel(order.run_id, 1, True)
    await actor.cancel(order.run_id, 2, True)
    assert not actor.cancelled_early
    for n in range(EARLY_KEPT + 10):
        await actor.cancel(f"never-{n}", 1, True)
    assert len(actor.cancelled_early) == EARLY_KEPT


async def test_no_cancel_falls_between_a_start_and_its_look() -> None:
    """Cancels of another thread at any moment around the start; not one of them is lost."""
    around = Actor(Gated())
    actor = executing(around)
    orders = [an_order() for _ in range(200)]
    begin = threading.Barrier(2, timeout=BOUND_S)

    def cancel_all() -> None:
        begin.wait()
        for order in orders:
            asyncio.run(actor.cancel(order.run_id, 1, True))

    thread = threading.Thread(target=cancel_all)
    thread.start()
    begin.wait()
    for order in orders:
        await actor.start_many(1, [order])
        await asyncio.sleep(0)
    await ended(actor)
    thread.join()
    assert {report.status for report in around.reports} == {"interrupted"}
    assert len(around.reports) == len(orders)
    assert not actor.shelf.current


async def test_a_late_attempt_takes_nothing_from_its_successor() -> None:
    gated = Gated()
    around = Actor(gated)
    actor = executing(around)
    first = an_order()
    await actor.start_many(1, [first])
    await gated.begun.wait()
    old = actor.shelf.executing(first.run_id)
    assert old is not None
    await actor.start_many(1, [dataclasses.replace(first, attempt=2)])
    actor.shelf.drop(old, whole=False)
    assert [attempt.order.attempt for attempt in actor.shelf.current] == [2]
    gated.go.set()
    await ended(actor)
    assert not actor.shelf.current


async def test_an_older_epoch_never_comes_back() -> None:
    actor = made()
    begin = threading.Barrier(4, timeout=BOUND_S)

    def hear(of: int) -> None:
        # One loop for all: to make one takes longer than what is tried here.
        with asyncio.Runner() as runner:
            begin.wait()
            for epoch in range(of, 4000, 4):
                try:
                    runner.run(actor.beat(epoch))
                except Fenced:
                    continue
                with pytest.raises(Fenced):
                    runner.run(actor.beat(epoch - 1))

    await asyncio.gather(*(asyncio.to_thread(hear, n) for n in range(4)))
    await actor.beat(3999)
    with pytest.raises(Fenced):
        await actor.beat(3998)


SAVERS = """
import asyncio, os, sys
from pathlib import Path
import numpy as np
from actors.common.placement import PoolSpec
from actors.common.setup import InspectorSetup
from actors.inspector.loaded import loaded
from greenroom.core.errors import NotKept
from tests.actors.test_run_actor import an_order, made

given = {"dsn": sys.argv[1], "config_path": Path(sys.argv[2]), "spec": PoolSpec(graphs=())}

async def savers():
    executes = made(**given)
    asks = InspectorSetup(name="reads", inspect_s=1.0, registry_silence_s=3600.0, **given)
    await executes.prepare()
    means = await (await loaded(asks)).means()
    for saver in (executes.deps().saver_of(an_order(), True), means.saver("t")):
        try:
            saver.serde.dumps_typed(np.float64(1.5))
        except NotKept as refused:
            print(refused, flush=True)
    os._exit(0)

asyncio.run(savers())
"""


def test_what_the_file_says_of_values_reaches_the_savers_of_runs_and_questions(
    dsn: str, tmp_path: Path
) -> None:
    file = tmp_path / "langgraph.json"
    serde = {"pickle_fallback": False}
    content = {"checkpointer": {"serde": serde}, "greenroom": {"shipped_graphs": True}}
    file.write_text(json.dumps({"graphs": {}, **content}))
    # Preparing an actor changes its process.
    done = subprocess.run(
        [sys.executable, "-c", SAVERS, dsn, str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout.count("'checkpointer.serde' of langgraph.json") == 2, done.stderr
