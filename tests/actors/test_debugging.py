"""A debugger in a process of a run: its breakpoint stops what executes, and nothing else."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.run import debugging
from actors.run.debugging import MISSING, Debugging
from greenroom.core.errors import ConfigurationError
from tests.waiting import BOUND_S

PROGRAM = """
import asyncio, sys, threading
from actors.run.debugging import Debugging

debugger = Debugging(int(sys.argv[1]))
begin = threading.Event()

def answers():
    debugger.leave_alone()
    for line in sys.stdin:
        if line == "begin\\n":
            begin.set()
        else:
            print("alive", flush=True)

def node(value):
    doubled = value * 2  # here
    return doubled

def execute():
    print(debugger.listen(), flush=True)
    threading.Thread(target=answers, daemon=True).start()
    asyncio.run(live())

async def live():
    node(1)  # before a debugger is there
    while not begin.is_set():
        await asyncio.sleep(0.01)
    debugger.leave_alone()  # the loop that executes runs hears of the registry, too
    print(await asyncio.create_task(execute_node()), flush=True)

async def execute_node():
    return node(21)

threading.Thread(target=execute, daemon=True).start()
threading.Event().wait(60)
"""


class Client:
    """As much of the debug adapter protocol as a breakpoint needs."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=BOUND_S)
        self._file = self._socket.makefile("rb")
        self._number = 0
        self._seen: list[Any] = []

    def send(self, command: str, **arguments: Any) -> int:
        self._number += 1
        body = json.dumps(
            {"seq": self._number, "type": "request", "command": command, "arguments": arguments}
        ).encode()
        self._socket.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        return self._number

    def _read(self) -> Any:
        length = 0
        while (line := self._file.readline().strip()) or not length:
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return json.loads(self._file.read(length))

    def until(self, kind: str, name: str) -> Any:
        while True:
            message = self._read()
            if (
                message["type"] == kind
                and message.get("event" if kind == "event" else "command") == name
            ):
                return message

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.fixture
def program(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int, Path]]:
    file = tmp_path / "graph_program.py"
    file.write_text(PROGRAM)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        first = taken.getsockname()[1]
        with subprocess.Popen(
            [sys.executable, "-Xfrozen_modules=off", str(file), str(first)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={"PYTHONPATH": str(Path(__file__).parents[2])},
        ) as process:
            try:
                assert process.stdout is not None
                port = int(process.stdout.readline())
                assert port > first, "the first port is taken"
                yield process, port, file
            finally:
                process.kill()


def test_a_breakpoint_stops_the_node_and_not_the_thread_that_answers(
    program: tuple[subprocess.Popen[str], int, Path],
) -> None:
    process, port, file = program
    assert process.stdin is not None
    assert process.stdout is not None
    line = next(n for n, each in enumerate(PROGRAM.splitlines(), 1) if "# here" in each)
    client = Client(port)
    try:
        client.send("initialize", adapterID="test", pathFormat="path")
        client.send("attach", justMyCode=False)
        client.until("event", "initialized")
        client.send("setBreakpoints", source={"path": str(file)}, breakpoints=[{"line": line}])
        assert client.until("response", "setBreakpoints")["body"]["breakpoints"][0]["verified"]
        client.send("configurationDone")
        client.until("response", "configurationDone")
        process.stdin.write("begin\n")
        process.stdin.flush()
        stopped = client.until("event", "stopped")["body"]
        assert stopped["reason"] == "breakpoint"
        client.send("stackTrace", threadId=stopped["threadId"])
        frames = client.until("response", "stackTrace")["body"]["stackFrames"]
        assert (frames[0]["name"], frames[0]["line"]) == ("node", line)
        process.stdin.write("x\n")
        process.stdin.flush()
        assert process.stdout.readline() == "alive\n"
        client.send("continue", threadId=stopped["threadId"])
        assert process.stdout.readline() == "42\n"
    finally:
        client.close()


def test_without_a_port_nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debugging, "importlib", None)
    silent = Debugging(None)
    assert silent.listen() is None
    silent.leave_alone()
    assert threading.active_count()


def test_without_debugpy_a_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "debugpy", None)
    with pytest.raises(ConfigurationError, match="pip install debugpy"):
        Debugging(5678).listen()
    assert "debugpy" in MISSING
