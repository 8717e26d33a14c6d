"""useStream, unmodified, in a real browser, on a page from another origin than the API."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.clients import npm
from tests.clients.breaking import BreakingProxy
from tests.clients.chromium import Browser
from tests.serving import Served


def tokens(count: int) -> str:
    return "".join(f"tok{number} " for number in range(count))


class Page:
    """The page with one version of useStream."""

    def __init__(self, browser: Browser, sdk: str, api: str) -> None:
        self._browser = browser
        self._sdk = sdk
        self._api = api

    async def play(self, scenario: str, **options: Any) -> dict[str, Any]:
        options = {"sdk": self._sdk, "api": self._api, **options}
        return await self._browser.play(scenario, **options)


@pytest.fixture(params=npm.SDKS, ids=list(npm.SDKS))
def page(request: pytest.FixtureRequest, browser: Browser, server: Served) -> Page:
    return Page(browser, npm.SDKS[request.param], server.url)


async def the_run_of(thread_id: str, url: str) -> dict[str, Any]:
    """The only run of a thread, as soon as it is over."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        (run,) = (await http.get(f"/threads/{thread_id}/runs")).json()
        path = f"/threads/{thread_id}/runs/{run['run_id']}"
        await http.get(f"{path}/join")
        return (await http.get(path)).json()


async def test_tokens_arrive_one_by_one_on_a_page_of_another_origin(
    page: Page, server: Served
) -> None:
    told = await page.play("send", input={"n_tokens": 15, "delay": 0.05})
    assert told["messages"] == ["hello", tokens(15)]
    assert told["error"] == ""
    assert urlsplit(told["origin"]).port != urlsplit(server.url).port
    shown = told["shown"]
    assert len(shown) > 3
    assert all(later.startswith(earlier) for earlier, later in pairwise(shown))


@pytest.mark.parametrize("reconnect", [False, True], ids=["by_leaving", "by_cancelling"])
async def test_stop_ends_the_run_and_keeps_what_was_said(
    page: Page, server: Served, reconnect: bool, tmp_path: Path
) -> None:
    """Without reconnectOnMount the page only closes the stream; with it, it cancels the run.

    Afterwards the SDK reads the thread's state, which has no half of an answer, and shows that.
    """
    never = {"gate": str(tmp_path / "gate")}
    told = await page.play("stop", graph="gated", reconnect=reconnect, input=never)
    said = told["shown"][-1]
    assert said.startswith("tok0 tok1 ")
    assert told["messages"] in (["hello", said], ["hello"])
    cancels = [one for one in told["requests"] if one["path"].endswith("/cancel")]
    assert len(cancels) == reconnect
    run = await the_run_of(told["thread"], server.url)
    assert run["status"] == "interrupted"


async def test_an_interrupt_is_shown_and_resumed(page: Page) -> None:
    told = await page.play("interrupt", graph="approval", input={"question": "May I?"})
    assert told["asked"] == {"question": "May I?"}
    assert told["values"] == {"question": "May I?", "answer": "yes", "done": True}
    assert (told["interrupt"], told["error"]) == ("", "")


async def test_a_reload_in_mid_run_rejoins_the_run(page: Page, tmp_path: Path) -> None:
    gate = {"gate": str(tmp_path / "gate")}
    told = await page.play("reload", graph="gated", reconnect=True, input=gate)
    assert told["rejoined"] == "loading"
    assert told["messages"] == ["hello", tokens(10)]
    joined = [one for one in told["requests"] if one["path"].endswith("/stream")]
    assert [(one["method"], one["lastEventId"]) for one in joined] == [("GET", "-1")]


async def test_a_message_is_edited_and_the_branch_before_it_stays(page: Page) -> None:
    told = await page.play("edit", input={"n_tokens": 3})
    answer = tokens(3)
    assert told["before"] == ["first", answer, "second", answer]
    assert told["edited"] == ["edited", answer]
    assert told["branch"] == "2/2"
    assert told["messages"] == told["before"]  # back on the first branch


async def test_a_broken_stream_goes_on_in_the_browser(
    page: Page, server: Served, tmp_path: Path
) -> None:
    """The page may read Location and send Last-Event-ID, although it is of another origin."""
    gate = {"gate": str(tmp_path / "gate")}
    async with BreakingProxy(server.url, cuts=[5]).open() as proxy:
        told = await page.play("lose", graph="gated", api=proxy.url, input=gate, reconnect=True)
    assert proxy.broken == 1
    assert told["messages"] == ["hello", tokens(10)]
    assert told["error"] == ""
    streams = [one for one in told["requests"] if one["path"].endswith("/stream")]
    assert [one["method"] for one in streams] == ["POST", "GET"]
    assert streams[1]["lastEventId"]


async def test_an_error_of_the_graph_is_shown(page: Page) -> None:
    told = await page.play("fail", graph="fails", input={"x": 0})
    assert told["error"] == "boom: x=1"
