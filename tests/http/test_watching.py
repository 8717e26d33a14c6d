"""The routes for people who watch a server."""

from __future__ import annotations

import httpx
import pytest

from tests.http.edge_doubles import RUN, THREAD, MemoryRecords


@pytest.mark.parametrize("mount", ["", "/api"])
async def test_the_runtime_is_shown_with_the_threads_that_wait_for_a_human(
    client: httpx.AsyncClient, records: MemoryRecords, mount: str
) -> None:
    records.add_run()
    records.threads[THREAD]["status"] = "interrupted"
    shown = (await client.get(f"{mount}/runtime")).json()
    assert shown["totals"] == {"running": 7, "pending": 0, "interrupted": 1}
    assert [run["run_id"] for run in shown["actors"][0]["runs"]] == [RUN]
