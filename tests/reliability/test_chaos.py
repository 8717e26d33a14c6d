"""The short, seeded form of `make chaos`: runs and A2A tasks on threads, stateless runs, and crons
that fire each second; without HAProxy and without locks."""

from __future__ import annotations

import pytest

from tests.reliability.chaos import chaos
from tests.reliability.witness import Effects
from tests.serving import Served


@pytest.mark.timeout(600)
async def test_runs_and_their_viewers_survive_what_is_killed_at_random(
    server: Served, effects: Effects
) -> None:
    kinds = {"run actor": 7, "registry": 2, "gateway": 1}
    result = await chaos(server, effects, seed=11, runs=25, kill=0.4, kinds=kinds)
    assert result.runs == 25
    assert result.tasks
    assert result.said
    assert result.firings
    assert not result.problems, "\n".join(result.problems)
