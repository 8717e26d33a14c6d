"""All projects on one server, from a folder with files that are called like modules of Python.

`tests/projects/test_projects.py` runs the same in its process; here processes of Ray load them, a
broken one is tolerated, and what fails is seen in the terminal.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from greenroom.graphs.configuration import read_configuration
from greenroom.persistence.embedded import start_embedded
from tests.projects.test_projects import CASES, HERE, config_of, parts
from tests.serving import Served, serving
from tests.waiting import until_without_loop

pytestmark = pytest.mark.slow

ALONE = ("monorepo/apps/one", "monorepo/apps/two")
"""Their folder serves both together."""
STATE_KEYS = """
import base64
import json

from langgraph_sdk import Encryption

encryption = Encryption()


@encryption.encrypt.blob
async def seal(ctx, data):
    return bytes(each ^ 0x55 for each in data)


@encryption.decrypt.blob
async def unseal(ctx, data):
    return bytes(each ^ 0x55 for each in data)


@encryption.encrypt.json
async def seal_each(ctx, data):
    return {
        k: "sealed:" + base64.b64encode(json.dumps(v).encode()).decode() for k, v in data.items()
    }


@encryption.decrypt.json
async def unseal_each(ctx, data):
    return {
        k: json.loads(base64.b64decode(v[7:])) if str(v).startswith("sealed:") else v
        for k, v in data.items()
    }
"""
"""Handlers that encrypt all state of the server, as a project has them."""
SERVED = [case for case in CASES if config_of(case)[0] not in ALONE]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("merged")
    graphs: dict[str, str] = {"broken": "./broken.py:graph"}
    dependencies: dict[str, None] = {}
    env: dict[str, str] = {}
    (root / "broken.py").write_text("import no_such_module\n")
    for case in SERVED:
        folder, graph_id = config_of(case)
        configuration = read_configuration(HERE / folder)
        spec = configuration.graph(graph_id)
        target = spec.target
        if spec.source.startswith("."):
            target = f"{_from(root, HERE / folder / spec.source)}:{spec.attribute}"
        graphs[case.graph.replace("/", "-")] = target
        for path in configuration.import_paths:
            dependencies[_from(root, path)] = None
        env |= configuration.env
    defaults = json.loads(env.pop("LANGGRAPH_CONFIG"))
    env["LANGGRAPH_CONFIG"] = json.dumps({"environment-agent": defaults["agent"]})
    (root / "state_keys.py").write_text(STATE_KEYS)
    content: dict[str, Any] = {"graphs": graphs, "dependencies": [*dependencies], "env": env}
    content["encryption"] = {"path": "./state_keys.py:encryption"}
    (root / "langgraph.json").write_text(json.dumps(content))
    here = os.getcwd()
    os.chdir(HERE / "library_names")
    try:
        program = ("-P", "-m", "greenroom", "serve", "--allow-broken")
        # It starts sooner with less; only the graphs matter here.
        environment = {"GREENROOM_HAPROXY": "false", "GREENROOM_GATEWAY_REPLICAS": "1"}
        data, config = root / "data", root / "langgraph.json"
        with serving(data, config, environment=environment, program=program) as server:
            yield server
    finally:
        os.chdir(here)


def _from(root: Path, path: Path) -> str:
    return os.path.relpath(path, root)


@pytest.fixture(scope="module")
def wrong(served: Served) -> dict[str, Any]:
    """What projects answered wrongly, after all were asked."""
    wrong: dict[str, Any] = {}
    with httpx.Client(base_url=served.url, timeout=120) as http:
        for case in SERVED:
            body = {"assistant_id": case.graph.replace("/", "-"), "input": case.input}
            thread = http.post("/threads", json={}).json()["thread_id"]
            more = {"context": case.context} if case.context else {}
            first = http.post(f"/threads/{thread}/runs/wait", json={**body, **more}).json()
            if parts(first, case.says) != case.says:
                wrong[case.graph] = first
            if case.then is not None:
                if "__interrupt__" in case.says:
                    body = {"assistant_id": body["assistant_id"], "command": {"resume": "yes"}}
                second = http.post(f"/threads/{thread}/runs/wait", json=body).json()
                if parts(second, case.then) != case.then:
                    wrong[f"{case.graph} again"] = second
    return wrong


def test_every_project_is_served(wrong: dict[str, Any]) -> None:
    assert wrong == {}


@pytest.mark.usefixtures("wrong")
async def test_all_state_went_through_the_handlers(served: Served) -> None:
    embedded = await asyncio.to_thread(start_embedded, served.data_dir / "pg")
    try:
        async with await psycopg.AsyncConnection.connect(embedded.dsn) as database:
            found = await database.execute(
                """
                SELECT count(*), count(*) FILTER (WHERE t."values"::text !~ 'sealed:'),
                    (SELECT count(*) FROM greenroom.checkpoints
                        WHERE checkpoint->'channel_values' <> '{}')
                FROM greenroom.threads t WHERE t."values" IS NOT NULL
                    AND t."values"::text NOT IN ('{}', 'null')"""
            )
            threads, plain, inline = await found.fetchone()  # type: ignore[misc]
    finally:
        embedded.release()
    assert (threads >= len(SERVED) // 2, plain, inline) == (True, 0, 0)


def test_assistants_have_the_names_of_their_graphs(served: Served) -> None:
    found = httpx.post(f"{served.url}/assistants/search", json={"limit": 100}).json()
    names = {each["graph_id"]: each["name"] for each in found}
    assert names["template_src-agent"] == "New Graph"
    assert names["deep_agent-deep"] == "Deep Agent"
    assert names["flat-agent"] == "flat-agent"


def test_a_broken_project_is_told_and_its_runs_fail_with_the_reason(served: Served) -> None:
    sentence = httpx.get(f"{served.url}/info").json()["broken_graphs"]["broken"]
    assert "Install 'no-such-module'" in sentence
    body = {"assistant_id": "broken", "input": {}}
    answer = httpx.post(f"{served.url}/runs/wait", json=body, timeout=120).json()
    assert answer["__error__"] == {"error": "ConfigurationError", "message": sentence}
    assert f"Note: {sentence}" in served.log.read_text()
    # The lines of actors come to the terminal over a socket.
    failed = "A run has failed: ConfigurationError: "
    until_without_loop(lambda: failed in served.log.read_text())
