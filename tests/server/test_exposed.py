"""What a running server shows: its passwords nowhere, its ports on loopback.

A server of its own, since the other tests' has an embedded database, whose address is no secret.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psutil
import pytest

from greenroom.persistence.embedded import start_embedded
from tests.serving import Served, serving

MARK = "m4rked-p4ssw0rd"
TOKEN = "m4rked" + "0" * 58
SECRET = "whsec_" + base64.b64encode(b"m4rked" * 5).decode()
KEY = base64.b64encode(b"m4rked-encryption-keys-of-server".ljust(32, b"s")).decode()
GRAPH = """
import os, pathlib, subprocess
from typing import TypedDict
from langgraph.graph import START, StateGraph

class State(TypedDict):
    shown: str

def show(state):
    mine = subprocess.run(["env"], capture_output=True, text=True).stdout
    first = pathlib.Path("/proc/self/environ").read_text()
    return {"shown": repr(os.environ) + mine + first}

builder = StateGraph(State)
builder.add_node("show", show)
builder.add_edge(START, "show")
graph = builder.compile()
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("marked")
    (folder / "graph.py").write_text(GRAPH)
    config = folder / "langgraph.json"
    webhooks = {"headers": {"x-token": "${{ env.LG_WEBHOOK_TOKEN }}"}}
    content = {"dependencies": ["."], "graphs": {"show": "./graph.py:graph"}, "webhooks": webhooks}
    config.write_text(json.dumps(content))
    database = start_embedded(folder / "pg")
    token = folder / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    try:
        # The password is not asked for, and travels through everything all the same.
        dsn = database.dsn.replace("@", f":{quote(MARK)}@", 1)
        environment = {
            "GREENROOM_DATABASE_URL": dsn,
            "RAY_AUTH_TOKEN_PATH": str(token),
            "GREENROOM_WEBHOOK_SECRETS": SECRET,
            "GREENROOM_ENCRYPTION_KEYS": f"old:{KEY}",
            "LG_WEBHOOK_TOKEN": f"token-{MARK}",
            "GREENROOM_LOG_LEVEL": "debug",
            "GREENROOM_LOG_FILE": str(folder / "lines.log"),
        }
        with serving(folder / "data", config, environment=environment) as served:
            yield served
    finally:
        database.stop()


def secret_in(text: str) -> bool:
    return any(mark in text for mark in (MARK, quote(MARK), TOKEN, SECRET, KEY))


@pytest.mark.slow
def test_a_password_is_found_nowhere(served: Served) -> None:
    found: list[str] = []

    def look(where: str, text: str) -> None:
        if secret_in(text):
            found.append(where)

    with httpx.Client(base_url=served.url, timeout=60) as client:
        body = {"assistant_id": "show", "input": {"shown": ""}}
        shown = client.post("/runs/wait", json=body).json()["shown"]
        assert "RAY_AUTH_TOKEN_PATH" in shown
        look("the environment of a graph", shown)
        for path in (
            "/info",
            "/metrics",
            "/metrics?format=json",
            "/ok?check_db=1",
            "/openapi.json",
        ):
            look(path, client.get(path).text)
        for path in ("/threads/x", "/nope", "/assistants/show/graph"):
            look(path, client.get(path).text)
        look("an error", client.post("/threads/search", content=b"{").text)
        look("a failed run", client.post("/runs/wait", json={**body, "input": 1}).text)
    processes = [psutil.Process(served.process.pid), *served.descendants()]
    # All of them, as everybody on the machine would see them.
    for process in processes:
        look(f"the list of processes: {process.name()}", " ".join(process.cmdline()))
    for process in processes[1:]:
        look(f"the environment of {process.name()}", json.dumps(process.environ()))
    logs = [served.log, *served.data_dir.parent.glob("*.log")]
    folders = {
        Path(file.path).parents[1]
        for process in processes
        for file in process.open_files()
        if "/session_" in file.path and file.path.endswith((".log", ".out", ".err"))
    }
    logs += [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert len(logs) > 10, "Ray's logs were not found"
    for log in logs:
        look(str(log), log.read_text(errors="replace"))
    assert found == []


@pytest.mark.slow
def test_only_calls_of_ray_serve_listen_elsewhere_than_on_loopback(served: Served) -> None:
    listening: list[tuple[list[str], Any]] = []
    for process in [psutil.Process(served.process.pid), *served.descendants()]:
        with contextlib.suppress(psutil.NoSuchProcess):  # one that has ended listens nowhere
            title = process.cmdline()[:1]
            listening += [(title, each) for each in process.net_connections("inet")]
    elsewhere = []
    for title, connection in listening:
        if connection.status == psutil.CONN_LISTEN:
            address = ipaddress.ip_address(connection.laddr.ip)
            inner = getattr(address, "ipv4_mapped", None) or address
            if not inner.is_loopback:
                elsewhere.append(title)
    # The port of each gateway for calls through Ray, which takes Ray's token.
    assert all(title[0].startswith("ray::ServeReplica") for title in elsewhere), elsewhere
    assert len(elsewhere) <= 2


@pytest.mark.slow
def test_rays_directory_is_closed_to_other_users(served: Served) -> None:
    folders = {
        parent
        for process in served.descendants()
        for file in process.open_files()
        for parent in Path(file.path).parents
        if parent.name.startswith("gr-ray-")
    }
    assert folders
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}
