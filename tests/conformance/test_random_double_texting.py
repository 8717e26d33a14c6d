"""Two hundred runs that meet each other on twenty threads, and a model of what becomes of them.

Which run was still there when the next came is a matter of milliseconds, so the model does not
predict one outcome but everything that may be, and how the outcomes hang together:

    a reject              is admitted only when every run before it is over
    a displacing run      (interrupt, rollback) decides for every run before it that is not over:
                          those end interrupted, or are deleted; the first decision counts
    runs between two of   succeed up to some point and are displaced from there on, since a queue is
    these                 first come, first served
    the thread's trail    has all steps of those that succeeded, a prefix of those that were
                          interrupted, and nothing of those that were deleted or never ran, in order
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from itertools import pairwise

from tests.conformance.talking import Talk, ok

SEED = 20_260_101
THREADS = 20
RUNS_PER_THREAD = 10
STRATEGIES = ("reject", "enqueue", "interrupt", "rollback")


@dataclass
class Text:
    """One attempt to start a run, and what came of it."""

    tag: str
    strategy: str
    steps: int
    pause_s: float
    run_id: str | None = None
    status: str = "rejected"


def texts(dice: random.Random, thread: int) -> list[Text]:
    return [
        Text(
            tag=f"t{thread}r{n}s",
            strategy=dice.choice(STRATEGIES),
            steps=dice.randint(1, 4),
            pause_s=dice.choice((0, 0, 0.02, 0.15)),
        )
        for n in range(RUNS_PER_THREAD)
    ]


async def play(talk: Talk, thread_id: str, script: list[Text]) -> None:
    for text in script:
        answer = await talk.post(
            f"/threads/{thread_id}/runs",
            {
                "assistant_id": "slow",
                "input": {"steps": text.steps, "delay": 0.01, "tag": text.tag},
                "multitask_strategy": text.strategy,
            },
        )
        if answer.status_code == 409:
            assert text.strategy == "reject"
        else:
            text.run_id = ok(answer)["run_id"]
        await asyncio.sleep(text.pause_s)
    for text in script:
        if text.run_id is not None:
            text.status = await talk.ended(thread_id, text.run_id)


def check(script: list[Text], trail: list[str]) -> None:
    admitted = [text for text in script if text.run_id is not None]
    assert script[0].run_id is not None, "the first run met nobody"
    for n, text in enumerate(admitted):
        later = admitted[n + 1 :]
        displacing = next((t for t in later if t.strategy in ("interrupt", "rollback")), None)
        possible = {"success"}
        if displacing is not None and not any(
            t.strategy == "reject" for t in later[: later.index(displacing) + 1]
        ):
            # A reject that was admitted in between proves that the run was over by then.
            possible.add("interrupted" if displacing.strategy == "interrupt" else "deleted")
        assert text.status in possible, (text, displacing)
    for before, after in pairwise(admitted):
        if after.strategy == "enqueue" and after.status == "success":
            assert before.status == "success", (before, after)
    at = 0
    for text in admitted:
        steps = [f"{text.tag}{n}" for n in range(1, text.steps + 1)]
        done = len([step for step in trail if step.startswith(text.tag)])
        assert trail[at : at + done] == steps[:done], (text, trail)
        assert done == text.steps or text.status != "success", text
        assert done == 0 or text.status != "deleted", text
        at += done
    assert at == len(trail)


async def test_two_hundred_double_texts_end_as_the_model_predicts(talk: Talk) -> None:
    dice = random.Random(SEED)
    scripts = [texts(dice, n) for n in range(THREADS)]
    threads = [await talk.new_thread() for _ in scripts]
    await asyncio.gather(*(play(talk, *pair) for pair in zip(threads, scripts, strict=True)))
    for thread_id, script in zip(threads, scripts, strict=True):
        thread = await talk.settled(thread_id)
        assert thread["status"] == "idle"
        listed = ok(await talk.get(f"/threads/{thread_id}/runs?limit=100"))
        left = {text.run_id: text.status for text in script if text.status not in GONE}
        assert {run["run_id"]: run["status"] for run in listed} == left
        check(script, (await talk.state(thread_id))["values"]["trail"])
    assert sum(len(script) for script in scripts) == 200


GONE = ("rejected", "deleted")
