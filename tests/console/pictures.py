"""`python -m tests.console.pictures`: takes the pictures of docs/console anew.

It starts a server with the examples, gives it some threads, runs and crons, and takes a picture of
each page at both sizes, in both themes. Look at each of them before they are committed.

    python -m tests.console.pictures [NAME ...]
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from PIL import Image

from greenroom.core.identity import system_assistant_id
from tests.clients import npm
from tests.clients.chromium import Browser
from tests.programs import CONSOLE
from tests.receiving import receiving
from tests.serving import serving

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "console"
EXAMPLES = ROOT / "examples" / "langgraph.json"
COLORS = 128
"""Of a picture: text in two themes needs no more, and the files are a third of the size."""

PEOPLE = {"Ada": 250, "Grace": 80, "Linus": 1200, "Barbara": 45}
ENVIRONMENT = {
    "GREENROOM_HAPROXY": "false",
    "GREENROOM_GATEWAY_REPLICAS": "1",
    "GREENROOM_WEBHOOK_ALLOW_PRIVATE": "true",
    "GREENROOM_DEFAULT_MAX_ACTORS": "4",
}


def said(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


async def talk(client: LangGraphClient, thread_id: str, graph: str, text: str) -> None:
    """Says something as the console does it: what the run does stays in the thread's log."""
    params = {"assistant_id": system_assistant_id(graph), "input": said(text)}
    command = {"id": 1, "method": "run.start", "params": params}
    answer: Any = await client.http.post(f"/threads/{thread_id}/commands", json=command)
    await client.runs.join(thread_id, answer["result"]["run_id"])


@contextlib.asynccontextmanager
async def filled(client: LangGraphClient, receiver: str) -> AsyncIterator[dict[str, str]]:
    """Gives the server something to show. Yields the place of each page."""
    for customer, amount in PEOPLE.items():
        thread = await client.threads.create(metadata={"customer": customer})
        asked = {"customer": customer, "amount": amount}
        await client.runs.wait(thread["thread_id"], "approval", input=asked)
    for question in (
        "What is an actor?",
        "How is a run recovered?",
        "What does a checkpoint cost?",
    ):
        thread = await client.threads.create(metadata={"topic": "actors"})
        await client.runs.wait(thread["thread_id"], "chat", input=said(question), webhook=receiver)
    thread_id = (await client.threads.create(metadata={"customer": "Ada"}))["thread_id"]
    for question in ("What is 6 times 7, and the weather in Oslo?", "And in Lisbon?"):
        await talk(client, thread_id, "tools", question)
    [_, run] = await client.runs.list(thread_id)
    nowhere = "http://127.0.0.1:9/hook"
    await client.runs.wait(None, "chat", input=said("Tell them"), webhook=nowhere)
    await client.crons.create("chat", schedule="0 9 * * 1-5", timezone="Europe/Berlin", input={})
    cron: Any = await client.crons.create("research", schedule="*/15 * * * *", input={})
    await client.crons.update(cron["cron_id"], enabled=False)
    slow = (await client.threads.create())["thread_id"]
    busy = [
        await client.runs.create(slow, "slow", input={"steps": 600, "step_s": 1.0})
        for _ in range(2)
    ]
    inbox = await client.threads.search(metadata={"customer": "Ada"}, status="interrupted")
    try:
        yield {
            "chat": f"chat/{thread_id}",
            "threads": "threads",
            "thread": f"threads/{thread_id}",
            "run": f"threads/{thread_id}/runs/{run['run_id']}",
            "running": f"threads/{slow}/runs/{busy[0]['run_id']}?tab=stack",
            "inbox": f"inbox?thread={inbox[0]['thread_id']}",
            "now": "now",
            "graphs": "assistants",
            "graph": f"assistants/{system_assistant_id('slow')}",
            "crons": "crons",
            "webhooks": "webhooks",
        }
    finally:
        for each in busy:
            await client.runs.cancel(slow, each["run_id"])


async def take(url: str, browser: Browser, folder: Path, names: Sequence[str]) -> None:
    async with (
        receiving() as receiver,
        get_client(url=url) as client,
        filled(client, receiver.url) as places,
    ):
        wanted = {name: place for name, place in places.items() if not names or name in names}
        told = await browser.play(
            "pictures.taken", url=url, places=wanted, folder=str(folder), patience_s=600
        )
    for file in map(Path, told["files"]):
        with Image.open(file) as picture:
            small = picture.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
            small.save(FOLDER / file.name, optimize=True)
            print(f"{file.name}: {(FOLDER / file.name).stat().st_size / 1000:.0f} kB")


def main(names: Sequence[str]) -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pictures-") as folder:
        with serving(Path(folder) / "data", EXAMPLES, environment=ENVIRONMENT) as server:
            with Browser.launched(
                npm.node(), npm.chromium(as_people_have_it=True), CONSOLE
            ) as browser:
                asyncio.run(take(server.url, browser, Path(folder), names))


if __name__ == "__main__":
    main(sys.argv[1:])
