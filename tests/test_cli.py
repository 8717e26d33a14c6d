"""The command line: what it says when something is wrong, and that nothing stays when it ends.

A server here is a stand-in that writes what happens to it; the signals, the ports, the locks and
the processes are real.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from greenroom import datadir
from greenroom.checks import check_database, check_port
from greenroom.cli import main, placement
from greenroom.core.errors import ConfigurationError, DatabaseUnavailable
from greenroom.environment import haproxy_dir, remove_haproxy_dir
from greenroom.graph_check import GraphCheck, GraphReport
from greenroom.graphs.configuration import Configuration, GraphSpec, PlacementSpec
from greenroom.running import curl, exceeded
from tests.serving import free_port
from tests.waiting import BOUND_S

ROOT = Path(__file__).parent.parent

SERVE = """
import faulthandler, sys, time
from pathlib import Path
faulthandler.dump_traceback_later({hangs_s})
from greenroom import cli
from greenroom.core.errors import Unavailable

class Server:
    def __init__(self, settings, configuration):
        assert "ray" not in sys.modules
        print("made", flush=True)
    def start(self, progress):
        progress("Raising the curtain")
        {start}
    def stop(self):
        print("stopped", flush=True)
        {stop}

cli.make_server = Server
cli.main(sys.argv[1:])
"""


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GREENROOM_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "graphs.py").write_text(
        "from langgraph.graph import START, MessagesState, StateGraph\n"
        "def answer(state): return {}\n"
        "graph = StateGraph(MessagesState).add_node(answer).add_edge(START, 'answer').compile()\n"
        "def factory(config): return graph\n"
    )
    configure(tmp_path, agent="./graphs.py:graph", made="./graphs.py:factory")
    return tmp_path


def configure(project: Path, **graphs: str) -> None:
    (project / "langgraph.json").write_text(json.dumps({"graphs": graphs}))


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def serve(project: Path) -> Iterator[Start]:
    """Starts ``greenroom serve`` in the project, around the stand-in."""
    started: list[subprocess.Popen[str]] = []

    def start(
        *options: str, start: str = "pass", stop: str = "pass", port: int | None = None
    ) -> subprocess.Popen[str]:
        # A process that hangs writes where, before the test ends it.
        code = SERVE.format(start=start, stop=stop, hangs_s=BOUND_S - 15)
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", code, "serve"),
                *("--port", str(port or free_port()), *options),
            ],
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
    remove_haproxy_dir(project / ".greenroom")


def wait_for(pipe: IO[str] | None, text: str) -> str:
    """Reads up to a line with ``text``; the end of the pipe, if it never comes, fails the test."""
    assert pipe is not None
    seen = ""
    for line in pipe:
        seen += line
        if text in line:
            return seen
    pytest.fail(f"{text!r} never came; instead: {seen}")


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    code = ended.value.code
    assert code is None or isinstance(code, int)
    return code or 0


# --- check, stop, version -------------------------------------------------------------------------


def test_version_names_what_it_stands_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("version") == 0
    assert "langgraph 1." in capsys.readouterr().out


def test_check_shows_every_graph_with_its_kind_and_nodes(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("check", "--config", str(project)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["agent", "graph", "0.5", "CPU", "answer"]
    assert lines[2].split() == ["made", "factory", "0.5", "CPU", "answer"]


def test_check_notes_what_the_platform_would_refuse(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project / "langgraph.json"
    content = json.loads(file.read_text())
    content |= {"dependencies": [], "python_version": "3.10"}
    file.write_text(json.dumps(content))
    assert run("check", "--config", str(project)) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "The Platform would refuse this langgraph.json: it wants 'dependencies'" in said
    assert "'python_version' is 3.10, and it wants 3.11 or newer" in said


def test_check_fails_with_graph_file_and_reason(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "broken.py").write_text("import no_such_module_here\n")
    configure(project, good="./graphs.py:graph", bad="./broken.py:graph")
    assert run("check", "--config", str(project)) == 1
    said = capsys.readouterr()
    assert "broken" in said.out
    assert "Error: Graph 'bad'" in said.err
    assert "broken.py" in said.err
    assert "No module named 'no_such_module_here'" in said.err


def test_a_machine_that_gives_no_process_is_a_sentence(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refused)
    assert run("check", "--config", str(project)) == 1
    said = capsys.readouterr().err
    assert "The operating system refused something:" in said
    assert "Resource temporarily unavailable" in said
    assert "Traceback" not in said


def test_check_names_line_and_column_of_broken_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "langgraph.json").write_text('{"graphs": {\n  "a": ./graphs.py}}')
    assert run("check", "--config", str(tmp_path)) == 1
    assert "line 2, column 8" in capsys.readouterr().err


def test_a_graph_that_crashes_the_interpreter_is_named(project: Path) -> None:
    (project / "crash.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    configure(project, good="./graphs.py:graph", bad="./crash.py:graph", later="./graphs.py:graph")
    with GraphCheck(project) as check:
        good, bad, later = check.finish()
    assert (good.problem, later.problem) == (None, None)
    assert bad.problem is not None
    assert "Graph 'bad' ended the interpreter" in bad.problem
    assert "signal 11" in bad.problem


def test_a_server_whose_auth_is_broken_does_not_start(project: Path) -> None:
    (project / "auth.py").write_text("from langgraph_sdk import Auth\nauth = Auth()\n")
    configure(project, good="./graphs.py:graph")
    for target, said in (
        ("./auth.py:auth", "no function under '@auth.authenticate'"),
        ("./auth.py:other", "has no attribute 'other'"),
        ("./nowhere.py:auth", "there is no file"),
    ):
        with GraphCheck(project, auth=target, tolerant=True) as check:
            with pytest.raises(ConfigurationError, match=said):
                check.refuse_broken(wait=True)
    with GraphCheck(project, auth="greenroom.auth:api_keys") as check:
        assert [report.problem for report in check.finish()] == [None]


def test_what_a_graph_prints_is_not_taken_for_a_report(project: Path) -> None:
    (project / "loud.py").write_text("print('{')\nfrom graphs import graph\n")
    configure(project, loud="./loud.py:graph")
    with GraphCheck(project) as check:
        assert check.finish() == [
            GraphReport(graph_id="loud", kind="graph", nodes=("answer",), chats=True)
        ]


def test_a_typo_in_a_variable_is_refused_by_every_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GREENROOM_PROT", "8001")
    for command in ("serve", "check", "stop"):
        assert run(command) == 1
        assert "did you mean GREENROOM_PORT?" in capsys.readouterr().err


def test_stop_says_that_there_is_nothing_to_stop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("stop", "--data-dir", str(tmp_path)) == 0
    assert "No server runs" in capsys.readouterr().out


# --- before anything is started -------------------------------------------------------------------


def test_a_port_in_use_is_named_with_one_to_use_instead() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"{port} .*in use.*--port {port + 1}"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="--host"):
        check_port("192.0.2.1", 8000)


def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    port = free_port()
    with pytest.raises(DatabaseUnavailable, match="--database-url") as raised:
        check_database(f"postgresql://ada:secret@127.0.0.1:{port}/db")
    assert f"127.0.0.1:{port}" in str(raised.value)
    assert "secret" not in str(raised.value)


# --- serve ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_shows_its_banner_and_ends_everything_when_told_to(
    serve: Start, number: signal.Signals
) -> None:
    process = serve()
    banner = wait_for(process.stdout, "Ctrl-C ends it")
    assert "graphs  agent, made" in banner
    assert "/docs" in banner
    assert "/console" in banner
    assert "curl -N http://127.0.0.1:" in banner
    process.send_signal(number)
    out, err = process.communicate(timeout=BOUND_S)
    assert process.returncode == 0
    assert "stopped" in out
    assert "Raising the curtain ..." in err


def test_ctrl_c_while_it_starts_stops_what_was_started(serve: Start) -> None:
    process = serve(start="print('starting', flush=True); time.sleep(600)")
    wait_for(process.stdout, "starting")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=BOUND_S)
    assert process.returncode == 0
    assert "stopped" in out


def test_a_second_ctrl_c_does_not_wait_for_the_stop(serve: Start) -> None:
    process = serve(stop="time.sleep(600)")
    wait_for(process.stdout, "Ctrl-C ends it")
    process.send_signal(signal.SIGINT)
    wait_for(process.stdout, "stopped")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=BOUND_S)
    assert process.returncode == 128 + signal.SIGINT


@pytest.mark.parametrize(
    ("start", "sentence"),
    [
        ("raise Unavailable('The stage is closed.')", "Error: The stage is closed."),
        ("raise OSError('no room\\n  at all')", "Error: The server could not start: no room ("),
        (
            "error = OSError('ray::X()\\n  File'); error.cause = OSError('full.'); raise error",
            "Error: The server could not start: full (",
        ),
    ],
)
def test_a_start_that_fails_says_one_sentence_and_leaves_nothing(
    serve: Start, start: str, sentence: str
) -> None:
    process = serve(start=start)
    out, err = process.communicate(timeout=BOUND_S)
    assert process.returncode == 1
    assert "stopped" in out
    assert sentence in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_graph_that_does_not_import_ends_the_start(serve: Start, project: Path) -> None:
    (project / "broken.py").write_text("1 / 0\n")
    configure(project, agent="./broken.py:graph")
    process = serve()
    out, err = process.communicate(timeout=BOUND_S)
    assert process.returncode == 1
    assert "stopped" in out
    assert "Graph 'agent'" in err.splitlines()[-1]
    assert "ZeroDivisionError" in err.splitlines()[-1]


def test_a_graph_that_does_not_import_is_the_reason_and_not_what_followed_from_it(
    serve: Start, project: Path
) -> None:
    (project / "broken.py").write_text("1 / 0\n")
    configure(project, agent="./broken.py:graph")
    process = serve(start="raise RuntimeError('an actor died')")
    _, err = process.communicate(timeout=BOUND_S)
    assert "Graph 'agent'" in err.splitlines()[-1]


def test_a_port_in_use_ends_serve_before_anything_is_started(serve: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = serve(port=taken.getsockname()[1])
        out, err = process.communicate(timeout=BOUND_S)
    assert process.returncode == 1
    assert out == ""
    assert "in use" in err.splitlines()[-1]


def test_a_second_server_in_the_same_directory_is_refused_with_the_first_one_named(
    serve: Start,
) -> None:
    first = serve()
    wait_for(first.stdout, "Ctrl-C ends it")
    second = serve()
    _, err = second.communicate(timeout=BOUND_S)
    assert second.returncode == 1
    assert f"process {first.pid}" in err.splitlines()[-1]


def test_a_directory_that_cannot_be_written_is_named_with_the_option(
    serve: Start, project: Path
) -> None:
    process = serve("--data-dir", str(project / "graphs.py" / "data"))
    _, err = process.communicate(timeout=BOUND_S)
    assert process.returncode == 1
    assert "graphs.py/data cannot be written" in err.splitlines()[-1]
    assert "name another with --data-dir" in err.splitlines()[-1]


def test_stop_ends_the_server_of_the_directory(
    serve: Start, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = serve()
    wait_for(process.stdout, "Ctrl-C ends it")
    assert run("stop", "--data-dir", str(project / ".greenroom")) == 0
    assert f"process {process.pid}) has ended" in capsys.readouterr().out
    assert process.wait(BOUND_S) == 0


def test_stop_does_not_touch_a_process_that_has_the_number_of_a_dead_server(
    serve: Start, project: Path
) -> None:
    process = serve()
    wait_for(process.stdout, "Ctrl-C ends it")
    process.kill()
    process.wait()
    file = project / ".greenroom" / datadir.FILE_NAME
    assert json.loads(file.read_text())["pid"] == process.pid
    # As if the number had been given to somebody else, here to this test.
    file.write_text(json.dumps({"pid": os.getpid(), "url": "http://127.0.0.1:1"}))
    assert datadir.stop(project / ".greenroom", wait_s=1) is None


def test_a_proxy_that_a_killed_server_left_behind_is_ended_and_no_other(tmp_path: Path) -> None:
    def proxy(configuration: Path) -> subprocess.Popen[str]:
        # `tail -f` waits like a proxy does; its name and its arguments are those of one.
        configuration.parent.mkdir(parents=True, exist_ok=True)
        configuration.write_text("ready\n")
        return subprocess.Popen(
            ["haproxy", "-n", "1", "-f", str(configuration)],
            executable="/usr/bin/tail",
            stdout=subprocess.PIPE,
            text=True,
        )

    ours_dir, other_dir = haproxy_dir(tmp_path / "ours"), haproxy_dir(tmp_path / "other")
    ours, other = proxy(ours_dir / "node" / "cfg"), proxy(other_dir / "node" / "cfg")
    try:
        wait_for(ours.stdout, "ready")
        wait_for(other.stdout, "ready")
        assert datadir.end_orphans(tmp_path / "ours") == [ours.pid]
        assert ours.wait(BOUND_S) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        for process, folder in ((ours, ours_dir), (other, other_dir)):
            process.kill()
            process.communicate()
            shutil.rmtree(folder)


# --- what the banner and the table say ------------------------------------------------------------


def test_the_curl_talks_to_the_first_graph_that_can_chat() -> None:
    reports = [
        GraphReport(graph_id="slow", kind="graph"),
        GraphReport(graph_id="chat", kind="graph", chats=True),
    ]
    command = curl("http://127.0.0.1:8000", reports)
    assert '"assistant_id": "chat"' in command
    assert '"messages-tuple"' in command
    assert '"assistant_id": "slow"' in curl("http://127.0.0.1:8000", reports[:1])


def test_a_placement_names_only_what_is_asked_for() -> None:
    spec = PlacementSpec(num_gpus=1, runs_per_actor=10, overflow=5, resources={"tpu": 2})
    assert placement(spec) == "0.5 CPU, 1 GPU, 2 tpu, 10 runs an actor, 5 more in a burst"


def test_a_placement_that_allows_fewer_actors_than_there_are_registries_is_named() -> None:
    graphs = {"few": 2, "enough": 4, "unbounded": 0}
    configuration = Configuration(
        root=Path(),
        graphs={
            name: GraphSpec(graph_id=name, target="", placement=PlacementSpec(max_actors=number))
            for name, number in graphs.items()
        },
    )
    (sentence,) = exceeded(configuration, 4)
    assert sentence.startswith("Graph 'few' may have 4 actors and not 2")
    assert exceeded(configuration, 1) == []
