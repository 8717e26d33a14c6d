"""One server for all scenarios: that of `CONFORMANCE_URL`, or the tests' own.

Scenarios keep apart by their threads. Against another server than ours those in `DIFFERENCES` are
expected to fail, strictly: a difference that is gone is to be struck from the table.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from greenroom.http.app import create_app
from tests.conformance.differences import always, only_here, reason_of
from tests.conformance.folder import HERE
from tests.conformance.talking import BOUND_S, Talk
from tests.http.edge_doubles import GRAPHS, MemoryRecords, MemoryRuntime

URL = os.environ.get("CONFORMANCE_URL")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if URL is None or _is_ours(URL):
        return
    for item in items:
        if item.path.parent != HERE:
            continue
        if (reason := only_here(item.nodeid)) is not None:
            item.add_marker(pytest.mark.skip(reason=reason))
        elif (reason := reason_of(item.nodeid)) is not None:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=always(item.nodeid)))


def _is_ours(url: str) -> bool:
    return httpx.get(f"{url}/openapi.json").json()["info"]["title"] == "Greenroom"


@pytest.fixture(scope="package")
def base_url(request: pytest.FixtureRequest) -> str:
    return URL.rstrip("/") if URL is not None else request.getfixturevalue("server").url


@pytest.fixture
async def http(base_url: str) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=base_url, timeout=BOUND_S, limits=limits) as http:
        yield http


@pytest.fixture
async def talk(http: httpx.AsyncClient) -> AsyncIterator[Talk]:
    """The Platform's mount."""
    talk = Talk(http)
    yield talk
    await talk.leave()


@pytest.fixture
async def edge() -> AsyncIterator[Talk]:
    """For what the routes alone decide, by another setting than the tests' server has.

    Ours are the routes on a runtime in memory, as a server without settings has them.
    """
    if URL is not None:
        async with httpx.AsyncClient(base_url=URL, timeout=BOUND_S) as http:
            yield Talk(http)
        return
    records = MemoryRecords()
    app = create_app(runtime=MemoryRuntime(records), records=records, graphs=GRAPHS)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://edge") as http:
        yield Talk(http)


@pytest.fixture
async def gateway(http: httpx.AsyncClient) -> AsyncIterator[Talk]:
    """The mount under ``/api``."""
    talk = Talk(http, "/api")
    yield talk
    await talk.leave()


@pytest.fixture
async def sdk(base_url: str) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=base_url, api_key=None) as sdk:
        yield sdk


@pytest.fixture
async def thread_id(talk: Talk) -> str:
    return await talk.new_thread()
