"""A cluster of several nodes: one that was only presumed dead, and a redeploy under load."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from tests.cluster.nodes import RayCluster, ray_cluster
from tests.reliability.chaos import Chaos, Result
from tests.reliability.conftest import MORTAL
from tests.reliability.test_readers import finished
from tests.reliability.test_run_deaths import KEPT, begin, thread
from tests.reliability.witness import GATEWAY, Effects, Seen, process_of, view_into
from tests.serving import Served, free_port, serving
from tests.waiting import until

pytestmark = pytest.mark.slow

LENGTH = 120
DEPLOY = """
import sys, ray
from ray import serve
from ray.serve.config import HTTPOptions
ray.init(address=sys.argv[1], log_to_driver=False, configure_logging=False)
serve.start(http_options=HTTPOptions(host="127.0.0.1", port=int(sys.argv[2])))
from serve_app import app
serve.run(app, name="greenroom", route_prefix="/")
"""
"""What `serve run serve_app:app` does, and then it goes: nobody stays to stop it all."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RayCluster]:
    with ray_cluster(tmp_path / "cluster") as cluster:
        cluster.add("head", cpus=16)
        yield cluster


def environment_of(cluster: RayCluster) -> dict[str, str]:
    return {
        **cluster.environment,
        "GREENROOM_HAPROXY": "false",
        "GREENROOM_DATABASE_URL": cluster.dsn,
        "GREENROOM_RAY_ADDRESS": cluster.address,
    }


# --- presumed dead --------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def signed(dsn: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """From now on every checkpoint says which process wrote it, in their order."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as database:
        await database.execute(
            """
            CREATE TABLE public.signatures (n serial, thread text, writer text);
            CREATE FUNCTION public.sign() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO public.signatures (thread, writer)
                    VALUES (NEW.thread_id, current_setting('application_name'));
                RETURN NEW;
            END $$;
            CREATE TRIGGER signed AFTER INSERT OR UPDATE ON checkpoints
                FOR EACH ROW EXECUTE FUNCTION public.sign()"""
        )
        yield database


async def test_who_was_presumed_dead_and_goes_on_writes_nothing_and_goes(
    tmp_path: Path, effects: Effects, cluster: RayCluster
) -> None:
    """Only its raylet is stopped: the actor executes, and reaches the database all the while."""
    config = tmp_path / "langgraph.json"
    far = {"steps": {"warm": 1, "max_actors": 2, "resources": {"far": 1}}}
    graphs = {"steps": f"{MORTAL.parent / 'mortal_graphs.py'}:steps"}
    config.write_text(json.dumps({"graphs": graphs, "greenroom": {"graphs": far}}))
    first = cluster.add("far")
    with serving(tmp_path / "server", config, environment=environment_of(cluster)) as server:
        async with (
            httpx.AsyncClient(base_url=server.url, timeout=60) as http,
            signed(cluster.dsn) as database,
        ):
            thread_id = await thread(http)
            state = effects.input(n=LENGTH, delay=0.25)
            body = {"assistant_id": "steps", "input": state, "durability": "sync", **KEPT}
            run_id = await begin(http, thread_id, **body)
            zombie = await process_of(http, run_id)
            assert zombie.parent() == first.raylet
            cluster.add("far")
            seen = Seen()
            path = f"/threads/{thread_id}/runs/{run_id}/stream"
            viewer = asyncio.create_task(view_to_the_end(seen, http, path))
            await until(lambda: len(seen.steps) >= 3)
            raylet = first.raylet
            raylet.suspend()
            try:
                before = effects.of(run_id).total()
                await until(lambda: seen.attempts == [1, 2] or viewer.done())
                assert seen.attempts == [1, 2], seen.steps
                # It was executing until then, and its checkpoints were accepted.
                assert effects.of(run_id).total() > before
                await until(lambda: not zombie.is_running())
                async with asyncio.timeout(120):
                    await viewer
            finally:
                raylet.resume()
            await until(lambda: not raylet.is_running() or not workers_of(raylet))
            cursor = await database.execute(
                "SELECT writer FROM public.signatures WHERE thread = %s ORDER BY n", (thread_id,)
            )
            writers = [row[0] for row in await cursor.fetchall()]
            assert (await http.get(f"/threads/{thread_id}")).json()["status"] == "idle"
    taken_over = writers.index(writers[-1])
    assert len(set(writers)) == 2
    assert set(writers[taken_over:]) == {writers[-1]}, "the dead one wrote after it was replaced"
    assert seen.steps == list(range(1, LENGTH + 1))
    assert set(effects.of(run_id)) == {f"step-{i}" for i in range(1, LENGTH + 1)}


async def view_to_the_end(seen: Seen, http: httpx.AsyncClient, path: str) -> None:
    """Over several connections: the gateway may be on the node that is lost."""
    while True:
        last = next((event_id for event_id, _, _ in reversed(seen.events) if event_id), "-1")
        try:
            return await view_into(seen, http, "GET", path, last=last)
        except (httpx.TransportError, httpx.HTTPStatusError):
            await asyncio.sleep(0.1)


def workers_of(raylet: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return raylet.children()
    return []


# --- redeploy -------------------------------------------------------------------------------------


@dataclass
class Deployed(Served):
    """A Serve application on a cluster; its processes are the nodes'."""

    cluster: RayCluster | None = None

    def actors(self) -> dict[str, psutil.Process]:
        assert self.cluster is not None
        found = {}
        for node in self.cluster.nodes.values():
            for process in node.actors():
                with contextlib.suppress(psutil.NoSuchProcess, IndexError):
                    title = process.cmdline()[0].removeprefix("ray::")
                    found[f"{title}#{process.pid}"] = process
        return found

    def pids(self, kind: str) -> set[int]:
        return {each.pid for name, each in self.actors().items() if name.startswith(kind)}

    async def deploy(self, config: Path, environment: Mapping[str, str]) -> None:
        """Deploys a configuration in its place."""
        assert self.cluster is not None
        environment = {
            **environment_of(self.cluster),
            "GREENROOM_CONFIG": str(config),
            "GREENROOM_DATA_DIR": str(self.data_dir / "other"),
            **environment,
        }
        done = await asyncio.to_thread(
            subprocess.run,
            [*(sys.executable, "-c", DEPLOY, self.cluster.address), self.url.rpartition(":")[2]],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def deployed(cluster: RayCluster, folder: Path) -> Deployed:
    return Deployed(
        url=f"http://127.0.0.1:{free_port()}",
        process=cluster.nodes["head"].process,
        data_dir=folder,
        log=cluster.nodes["head"].log,
        cluster=cluster,
    )


class Redeploys(Chaos):
    """Runs and viewers as in the chaos suite; what happens to them is a redeploy, twice.

    Args:
        shards: how many registries each start has.
    """

    def __init__(
        self, server: Deployed, effects: Effects, folder: Path, shards: tuple[int, ...]
    ) -> None:
        super().__init__(server, effects, seed=3, kill=0.0)
        self.shards = shards
        self.deployed = server
        self.first: Served | None = None
        self.folder = folder
        self.done = 0

    def write(self, number: int) -> None:
        config = json.loads(MORTAL.read_text())
        config["graphs"][f"new-{number}"] = "./mortal_graphs.py:steps"
        (self.folder / "langgraph.json").write_text(json.dumps(config))

    async def deploy(self, number: int) -> None:
        """Deploys the configuration with one more graph, ``new-<number>``."""
        self.write(number)
        shards = {"GREENROOM_REGISTRY_SHARDS": str(self.shards[number])}
        await self.deployed.deploy(self.folder / "langgraph.json", shards)

    async def _kill_at_random(self, http: httpx.AsyncClient) -> None:
        for number in (1, 2):
            await until(lambda: len(self._current) >= 4)
            old = self.deployed.pids("RunActor"), self.deployed.pids("RegistryActor")
            await self.deploy(number)
            body = {"assistant_id": f"new-{number}", "input": {"n": 2}}
            answer = await http.post("/runs/wait", json=body)
            assert answer.json()["i"] == 2, "the new replicas answer"
            # Whoever has the old code is drained, and reaped.
            await until(lambda old=old: not self.deployed.pids("RunActor") & old[0])
            assert not self.deployed.pids("RegistryActor") & old[1]
            self.registries = self.shards[number]
            assert len(self.deployed.pids("RegistryActor")) == self.registries
            self.done = number
            if self.first is not None:
                # It was replaced, and takes nothing along of what is the new one's.
                await asyncio.to_thread(self.first.stop)
                self.first = None


@pytest.mark.parametrize("shards", [(1, 1, 1), (1, 3, 2)], ids=str)
@pytest.mark.timeout(600)
async def test_a_redeploy_under_load_loses_nothing_and_repeats_nothing(
    tmp_path: Path, cluster: RayCluster, effects: Effects, shards: tuple[int, ...]
) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    for graphs in ("mortal_graphs.py", "raising_graphs.py"):
        shutil.copy(MORTAL.parent / graphs, folder)
    server = deployed(cluster, folder)
    driver = Redeploys(server, effects, folder, shards)
    driver.write(0)
    config = folder / "langgraph.json"
    with serving(
        folder / "data",
        config,
        environment={
            **environment_of(cluster),
            "GREENROOM_REGISTRY_SHARDS": str(shards[0]),
        },
        port=int(server.url.rpartition(":")[2]),
    ) as driver.first:
        result: Result = await driver.run(runs=None, seconds=None, until=lambda: driver.done == 2)
    print(result.table(3), *driver.refused, sep="\n")
    assert driver.done == 2
    assert result.runs >= 20
    assert not result.problems, "\n".join(result.problems)
    # Connections may break, but who is heard is answered.
    assert not driver.refused


async def test_a_gateway_that_is_replaced_answers_what_waits_and_breaks_its_streams_off(
    tmp_path: Path, cluster: RayCluster, effects: Effects
) -> None:
    server = deployed(cluster, tmp_path)
    port = int(server.url.rpartition(":")[2])
    environment = environment_of(cluster)
    with serving(tmp_path / "data", MORTAL, environment=environment, port=port) as first:
        async with httpx.AsyncClient(base_url=server.url, timeout=120) as http:
            guilty = await finished(http, "keeps_readers_waiting")
            thread_id = await thread(http)
            state = effects.input(n=2 * LENGTH, delay=0.25)
            run_id = await begin(http, thread_id, assistant_id="steps", input=state, **KEPT)
            old = server.pids(GATEWAY)
            seen = Seen()
            path = f"/threads/{thread_id}/runs/{run_id}/stream"
            viewer = asyncio.create_task(view_into(seen, http, "GET", path, last="-1"))
            # Their graph does not answer for 30 s, longer than either gateway is left alone. Some
            # are at the one that is replaced first.
            waiting = [http.get(f"/threads/{guilty}/state") for _ in range(4)]
            answers = asyncio.gather(*waiting)
            await asyncio.gather(server.deploy(MORTAL, {}), answers)
            # A break, and not an end: a client comes back after it.
            with pytest.raises(httpx.TransportError):
                await viewer
            await view_to_the_end(seen, http, path)
            said = [answer.text for answer in answers.result()]
            assert [answer.status_code for answer in answers.result()] == [503] * 4, said
            assert all("keeps_readers_waiting" in each for each in said)
            assert seen.steps == list(range(1, 2 * LENGTH + 1))
            assert not server.pids(GATEWAY) & old
        await asyncio.to_thread(first.stop)
