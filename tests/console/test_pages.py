"""What holds for every page of the console."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from greenroom.core.identity import system_assistant_id
from tests.console.conftest import Place

MOST_BYTES = 150_000
"""Of the first paint, uncompressed: issue 17's bound."""

NAMES = {
    "chat": "chat",
    "a chat": "chat",
    "threads": "threads",
    "thread": "thread",
    "runs of a thread": "thread",
    "run": "run",
    "inbox": "inbox",
    "now": "now",
    "assistants": "assistants",
    "assistant": "assistant",
    "crons": "crons",
    "webhooks": "webhooks",
}
"""The page that each place shows."""


@pytest.fixture
def place(open_place: Place) -> Place:
    return open_place


@pytest.fixture
async def places(place: Place) -> AsyncIterator[dict[str, str]]:
    """An address of each page, with something on it."""
    client = place.client
    thread = (await client.threads.create(metadata={"customer": "Ada"}))["thread_id"]
    said = {"messages": [{"role": "user", "content": "use"}]}
    # Nobody listens there: the delivery fails and stays in the list.
    await client.runs.wait(thread, "talkative", input=said, webhook="http://127.0.0.1:9/gone")
    [run] = await client.runs.list(thread)
    asking = await place.waiting("decision", customer="Ada")
    cron: Any = await client.crons.create("talkative", schedule="0 9 * * 1", input=said)
    yield {
        "chat": "",
        "a chat": f"chat/{thread}",
        "threads": "threads",
        "thread": f"threads/{thread}",
        "runs of a thread": f"threads/{thread}?tab=runs",
        "run": f"threads/{thread}/runs/{run['run_id']}",
        "inbox": f"inbox?thread={asking}",
        "now": "now",
        "assistants": "assistants",
        "assistant": f"assistants/{system_assistant_id('crew')}",
        "crons": "crons",
        "webhooks": "webhooks",
    }
    await client.crons.delete(cron["cron_id"])
    await client.threads.delete(asking)


async def test_pages_fit_their_screen_and_are_accessible(
    place: Place, places: dict[str, str]
) -> None:
    told = await place.see("pages.checked", places=places, axe=True)
    assert set(told["seen"]) == set(NAMES)
    assert all(told["seen"].values())


async def test_an_address_leads_to_its_page_also_after_a_reload(
    place: Place, places: dict[str, str]
) -> None:
    told = await place.see("pages.addressed", places=places)
    for name, seen in told["seen"].items():
        assert (seen["shown"], seen["again"]) == (NAMES[name], NAMES[name])
        assert seen["title"].endswith("· Greenroom")
        assert seen["path"] == f"/console/{places[name]}".partition("?")[0]
    assert told["back"] == "/console/crons"
    assert told["asked"] == [place.url]


async def test_everything_is_reached_by_keys(place: Place) -> None:
    keys = {
        **{"c": "chat", "t": "threads", "i": "inbox", "n": "now"},
        **{"a": "assistants", "r": "crons", "w": "webhooks"},
    }
    told = await place.see("pages.typed", keys=keys)
    assert [each.split()[0] for each in told["reached"].values()] == [
        *("Chat", "Threads", "Inbox", "Now", "Graphs", "Crons", "Webhooks")
    ]
    assert "Go to Inbox" in told["help"]
    assert told["skipped"] == "main"
    assert told["light"] != told["dark"]
    assert told["kept"] == told["dark"]


async def test_what_is_not_there_is_said(place: Place) -> None:
    told = await place.see("pages.missing", id=str(uuid.uuid4()))
    assert "There is no such page" in told["said"].pop("page")
    assert set(told["said"]) == {"assistants", "threads", "threads/runs"}


@pytest.mark.parametrize("path", ["", "threads", "inbox", "now"])
async def test_a_first_visit_is_light(place: Place, path: str) -> None:
    told = await place.see("pages.weighed", place=path, fresh=True)
    bytes_ = told["bytes"]
    assert bytes_["page"] > 0
    assert bytes_["scripts"] > 0
    assert bytes_["page"] + bytes_["scripts"] + bytes_["styles"] < MOST_BYTES
