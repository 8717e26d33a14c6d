"""Streams a run, kills its process in mid-stream, and the tokens go on.

Start a server on this machine (`make serve`), then: ``python examples/crash_demo.py``

The process is killed with -9 after a third of the run. The HTTP stream stays the same one: another
``metadata`` event says ``attempt: 2``, and the run goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx

STEPS = 15


def events(response: httpx.Response) -> Iterator[tuple[str, Any]]:
    """Name and data of a stream's events."""
    name, data = "", ""
    for line in response.iter_lines():
        key, _, value = line.partition(": ")
        if key == "event":
            name = value
        elif key == "data":
            data = value
        elif not line and data:
            yield name, json.loads(data)
            name, data = "", ""


def process_of(server: httpx.Client, run_id: str) -> int:
    """The process that executes a run, as `/info` tells."""
    pool = server.get("/info").json()["counts"]["pool"]
    return next(member["pid"] for member in pool if run_id in member["runs"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    url: str = parser.parse_args().url
    body = {
        "assistant_id": "slow",
        "input": {"steps": STEPS, "step_s": 0.2},
        "stream_mode": ["custom"],
        "stream_resumable": True,
        "durability": "sync",
    }
    run_id, killed_s = "", 0.0
    with (
        httpx.Client(base_url=url, timeout=60) as server,
        server.stream("POST", "/runs/stream", json=body) as response,
    ):
        response.raise_for_status()
        for name, data in events(response):
            if name == "metadata":
                run_id = data["run_id"]
                print(f"attempt {data['attempt']}, in process {process_of(server, run_id)}")
            elif name == "custom":
                after = ""
                if killed_s:
                    after = f"   ({time.monotonic() - killed_s:.2f} s after the kill)"
                    killed_s = 0.0
                print(f"  step {data['done']} of {data['of']}{after}", flush=True)
                if data["done"] == STEPS // 3:
                    pid = process_of(server, run_id)
                    os.kill(pid, signal.SIGKILL)
                    killed_s = time.monotonic()
                    print(f"kill -9 {pid}")
            elif name == "error":
                raise SystemExit(f"the run failed: {data['message']}")
    print("the stream has ended; no step was missed")


if __name__ == "__main__":
    main()
