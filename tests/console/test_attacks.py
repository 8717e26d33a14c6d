"""Nothing that a graph, a model or another client says becomes markup or code in the console."""

from __future__ import annotations

import asyncio

from tests.console.conftest import Place

MARKUP = "<img src=x onerror=alert(1)>"
SAID = f"""{MARKUP}<script>alert(2)</script>

[link](javascript:alert(3)) [data](data:text/html,<script>alert(4)</script>) ![picture](x)
"><svg onload=alert(5)>

`{MARKUP}`

| a | {MARKUP} |
|---|---|
| b | <b>c</b> |
"""


async def test_what_others_say_is_text_on_every_page(open_place: Place) -> None:
    client = open_place.client
    assistant = await client.assistants.create(
        "hostile", name=MARKUP, description=MARKUP, metadata={MARKUP: MARKUP}
    )
    its_id = assistant["assistant_id"]
    thread = await client.threads.create(metadata={"note": MARKUP, MARKUP: "x"})
    thread_id = thread["thread_id"]
    asking = await open_place.waiting("asks", value={"question": SAID, MARKUP: {MARKUP: SAID}})
    runs = []
    for said in (SAID, f"fail {SAID}"):
        run = await client.runs.create(
            thread_id, its_id, input={"messages": [{"role": "user", "content": said}]}
        )
        await asyncio.wait_for(client.runs.join(thread_id, run["run_id"]), 60)
        runs.append(run["run_id"])
    cron = await client.crons.create(its_id, schedule="0 0 1 1 *", metadata={MARKUP: MARKUP})
    try:
        places = {
            "chat": f"chat/{thread_id}",
            "thread": f"threads/{thread_id}",
            "run": f"threads/{thread_id}/runs/{runs[0]}",
            "failed run": f"threads/{thread_id}/runs/{runs[1]}",
            "threads": "threads",
            "inbox": f"inbox?thread={asking}",
            "assistants": "assistants",
            "assistant": f"assistants/{its_id}",
            "crons": "crons",
        }
        told = await open_place.see("attacks.shown", places=places, text=MARKUP)
        assert told["found"] == {}
        assert set(told["shows"]) == set(places)
    finally:
        await client.crons.delete(cron["cron_id"])  # type: ignore[typeddict-item]
        await client.assistants.delete(its_id)
