"""PostgreSQL has no space or no connection left: it is said, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import httpx
import psycopg
import pytest

from greenroom.persistence.embedded import start_embedded
from tests.reliability.conftest import MORTAL
from tests.reliability.test_run_deaths import KEPT, thread
from tests.reliability.witness import Effects, Seen, is_warm, view_into
from tests.serving import Served, serving
from tests.waiting import until

DISK_MIB = 160
LARGE = os.urandom(100_000).hex()
LEFT_BYTES = 1 << 20
FULL = "No space left on device"


def may_mount() -> bool:
    """Whether this machine lets the tests have a disk of their own."""
    command = ["-c", "from tests.reliability.small_disk_server import *; import tempfile;"]
    command[1] += "mount_small_disk(Path(tempfile.mkdtemp()), 1)"
    return (
        subprocess.run([sys.executable, *command], capture_output=True, check=False).returncode == 0
    )


class Filler:
    """A file on the server's small disk that takes almost all that is left of it."""

    def __init__(self, server: Served) -> None:
        root = Path(f"/proc/{server.process.pid}/root")
        self._path = root / str(server.data_dir / "pg" / "filler").lstrip("/")

    def fill(self) -> None:
        with self._path.open("wb", buffering=0) as file:
            for size in (1 << 20, 4096):
                try:
                    while file.write(b"x" * size) == size:
                        pass
                except OSError:
                    continue
            file.truncate(file.tell() - LEFT_BYTES)

    def free(self) -> None:
        self._path.unlink()


@pytest.mark.slow
@pytest.mark.skipif(not may_mount(), reason="needs the right to mount")
async def test_a_full_disk_is_said_in_a_sentence_and_over_when_there_is_space(
    tmp_path: Path, effects: Effects
) -> None:
    environment = {"GREENROOM_HAPROXY": "false", "DISK_MIB": str(DISK_MIB)}
    program = ("-m", "tests.reliability.small_disk_server")
    with serving(tmp_path / "s", MORTAL, environment=environment, program=program) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=90) as http:
            await is_warm(http)
            filler = Filler(server)
            thread_id = await thread(http)
            seen = Seen()
            body = {"assistant_id": "steps", "durability": "sync", **KEPT}
            body |= {"input": effects.input(n=150, delay=0.1)}
            path = f"/threads/{thread_id}/runs/stream"
            viewer = asyncio.create_task(view_into(seen, http, "POST", path, json=body))
            await until(lambda: len(seen.steps) >= 3)

            await asyncio.to_thread(filler.fill)
            threads: list[str] = []
            runs: list[tuple[str, str]] = []
            refused: list[httpx.Response] = []
            # Some are taken in, until there is no page for another large record.
            while len(refused) < 3:
                answer = await http.post("/threads", json={"metadata": {"large": LARGE}})
                if not answer.is_success:
                    refused.append(answer)
                    continue
                threads.append(answer.json()["thread_id"])
                body = {"assistant_id": "steps", "metadata": {"large": LARGE}}
                body |= {"input": effects.input(n=2)}
                answer = await http.post(f"/threads/{threads[-1]}/runs", json=body)
                if answer.is_success:
                    runs.append((threads[-1], answer.json()["run_id"]))
                else:
                    refused.append(answer)
            assert runs
            for answer in refused:
                assert answer.status_code == 503, answer.text
                said = answer.json()["detail"]
                assert FULL in said or "does not answer" in said, said
            await asyncio.to_thread(filler.free)

            async def works() -> bool:
                answer = await http.post(
                    "/runs/wait", json={"assistant_id": "steps", "input": {"n": 2}}
                )
                return answer.is_success and answer.json().get("i") == 2

            await until(works, within_s=90.0, every_s=0.2)
            for each in threads:
                assert (await http.get(f"/threads/{each}")).is_success
            for each, run_id in runs:

                async def over(path: str = f"/threads/{each}/runs/{run_id}") -> bool:
                    return (await http.get(path)).json()["status"] == "success"

                await until(over)
                assert set(effects.of(run_id)) == {"step-1", "step-2"}
            async with asyncio.timeout(120):
                await viewer
            print(f"{len(threads)=} {len(runs)=}", [r.json()["detail"] for r in refused])
            assert seen.steps == list(range(1, 151))
            assert seen.attempts == [1]
            found = await http.get("/info")
            assert not found.json()["counts"]["pending"]


@pytest.mark.slow
async def test_who_finds_no_connection_hears_that_in_a_sentence(
    http: httpx.AsyncClient, server: Served
) -> None:
    """Somebody holds every connection of the database, and the gateway's were ended."""
    await is_warm(http)
    database = await asyncio.to_thread(start_embedded, server.data_dir / "pg")
    held: list[psycopg.AsyncConnection] = []
    try:
        held.append(await psycopg.AsyncConnection.connect(database.dsn, autocommit=True))

        async def take() -> None:
            while True:
                try:
                    held.append(await psycopg.AsyncConnection.connect(database.dsn))
                except psycopg.OperationalError:
                    return

        await take()
        await held[0].execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'greenroom:gateway'"
        )
        await take()
        answer = await http.post("/threads", json={})
        assert answer.status_code == 503
        assert "too many clients" in answer.json()["detail"]
        assert (await http.get("/ok")).status_code in (200, 503)
    finally:
        for connection in held:
            await connection.close()
        database.release()

    async def works() -> bool:
        return (await http.post("/threads", json={})).is_success

    await until(works)
