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
        await client.runs.wait(
            thread["thread_id"], "chat", input=said(question), webhook=f"{receiver}/ok"
        )
    talk = (await client.threads.create(metadata={"customer": "Ada"}))["thread_id"]
    for question in ("What is 6 times 7, and the weather in Oslo?", "And in Lisbon?"):
        await client.runs.wait(talk, "tools", input=said(question), webhook="http://127.0.0.1:9/x")
    [_, run] = await client.runs.list(talk)
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
            "chat": f"chat/{talk}",
            "threads": "threads",
            "thread": f"threads/{talk}",
            "run": f"threads/{talk}/runs/{run['run_id']}",
            "running": f"threads/{slow}/runs/{busy[0]['run_id']}?tab=stack",
            "inbox": f"inbox?thread={inbox[0]['thread_id']}",
            "now": "now",
            "graphs": "assistants",
            "graph": f"assistants/{system_assistant_id('tools')}",
            "crons": "crons",
            "webhooks": "webhooks",
        }
    finally:
        for each in busy:
            await client.runs.cancel(slow, each["run_id"])


async def take(url: str, browser: Browser, folder: Path, names: Sequence[str]) -> None:
    async with get_client(url=url) as client, filled(client, url) as places:
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
            with Browser.launched(npm.node(), npm.chromium(), CONSOLE) as browser:
                asyncio.run(take(server.url, browser, Path(folder), names))


if __name__ == "__main__":
    main(sys.argv[1:])
