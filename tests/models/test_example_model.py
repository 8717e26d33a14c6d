"""The example's deployment, in this process: who shares a step, who leaves, what a failure does."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from greenroom.graphs.configuration import read_configuration
from tests.later import Later

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def model_class(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    return Later("gpu_pipeline.model").TinyModel.func_or_class


async def said(model: Any, **request: Any) -> str:
    chunks = [chunk async for chunk in model.chat({**HELLO, **request})]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


async def test_conversations_that_come_together_share_their_steps(model_class: Any) -> None:
    model = model_class(width=8)
    answers = await asyncio.gather(*(said(model, max_tokens=20) for _ in range(10)))
    assert all(len(answer.split()) == 20 for answer in answers)
    counts = await model.counts()
    assert (counts["tokens"], counts["steps"] < 60) == (200, True)


async def test_without_batching_each_has_steps_of_its_own(model_class: Any) -> None:
    model = model_class(width=8, max_batch=1)
    await asyncio.gather(*(said(model, max_tokens=5) for _ in range(4)))
    counts = await model.counts()
    assert (counts["tokens"], counts["steps"]) == (20, 20)


async def test_who_leaves_frees_a_place_for_the_next(model_class: Any) -> None:
    """The first would talk for ever, and the only place of the batch is its own."""
    model = model_class(width=8, max_batch=1)
    first = model.chat({**HELLO, "max_tokens": 10**9})
    await anext(first)
    waiting = asyncio.create_task(said(model, max_tokens=3))
    await anext(first)
    assert not waiting.done()
    await first.aclose()
    async with asyncio.timeout(30):
        assert len((await waiting).split()) == 3


async def test_those_in_a_step_that_fails_hear_of_it_and_others_go_on(
    model_class: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_class(width=8)
    with monkeypatch.context() as patched:

        def fail(*_: Any) -> None:
            raise RuntimeError("CUDA out of memory")

        patched.setattr(model._network, "step", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            await said(model)
    assert len((await said(model, max_tokens=3)).split()) == 3


@pytest.mark.parametrize("name", ["langgraph.json", "gpu.json"])
def test_the_examples_configurations_are_accepted(
    name: str, model_class: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gpu_pipeline.model as module

    found = read_configuration(EXAMPLES / "gpu_pipeline" / name)
    assert found.warnings == ()
    gpus = 0.0
    for target in found.applications.values():
        application = getattr(module, target.partition(":")[2])
        options = application._bound_deployment.ray_actor_options
        gpus += options.get("num_gpus") or 0
    for graph in found.graphs.values():
        gpus += graph.placement.num_gpus * graph.placement.max_actors
    # One GPU is enough for all of it, and used as a whole.
    assert gpus == (pytest.approx(1.0) if name == "gpu.json" else 0)
