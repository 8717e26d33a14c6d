"""What user code raised is in the log, once, and in the terminal; a client gets less."""

from __future__ import annotations

import contextvars
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from rich.console import Console
from typing_extensions import TypedDict

from actors.server.local_ray import RAY_DIR_BELOW, RAY_DIR_PREFIX
from greenroom import terminal
from greenroom.core.errors import ConfigurationError
from greenroom.core.raised import Escaped
from greenroom.graphs.configuration import GraphSpec
from greenroom.graphs.failures import log_failure
from greenroom.graphs.loading import LoadedGraph
from greenroom.logs import TRACEBACK_MAX, JsonFormatter, LogSettings, noting
from tests.graphs.graph_driver import given, order, run
from tests.waiting import until_without_loop

ROOT = Path(__file__).parents[1]


class State(TypedDict, total=False):
    x: int


class Unprintable(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


def raising(error: BaseException) -> Any:
    def inner(state: State) -> State:
        raise error

    return StateGraph(State).add_node("inner", inner).add_edge(START, "inner").compile()


async def failed(
    caplog: pytest.LogCaptureFixture, graph: Any
) -> tuple[dict[str, Any], dict[str, str]]:
    """The one line that a failed run has logged, and what its client is told."""
    outcome = await run(given(graph), order(input={}))
    return logged(caplog), outcome.output["__error__"]


def logged(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    [record] = [each for each in caplog.records if each.levelno >= logging.ERROR]
    return json.loads(JsonFormatter().format(record))


async def test_a_node_s_exception_is_logged_once_with_node_and_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = ValueError("boom")
    error.add_note("the user asked for it")
    line, told = await failed(caplog, raising(error))
    assert line["message"] == "A run has failed: ValueError: boom"
    assert (line["action"], line["graph_id"], line["node"]) == ("run_failed", "given", "inner")
    assert "raise error" in line["traceback"]
    assert "the user asked for it" in line["traceback"]
    assert told == {"error": "ValueError", "message": "boom"}


async def test_a_node_in_a_subgraph_is_named_behind_its_parents(
    caplog: pytest.LogCaptureFixture,
) -> None:
    builder = StateGraph(State).add_node("outer", raising(ValueError("boom")))
    line, _ = await failed(caplog, builder.add_edge(START, "outer").compile())
    assert line["node"] == "outer:inner"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (SystemExit(2), "A run has failed: SystemExit: 2"),
        (ValueError(), "A run has failed: ValueError"),
        (ValueError("a\nb" + "x" * 10_000_000), "A run has failed: ValueError: a b" + "x" * 297),
        (Unprintable(), "A run has failed: Unprintable: <Unprintable: SystemExit while"),
    ],
    ids=["SystemExit", "empty", "large", "unprintable"],
)
def test_whatever_is_raised_is_one_line_of_bounded_length(
    caplog: pytest.LogCaptureFixture, error: BaseException, message: str
) -> None:
    try:
        raise Escaped(error) from error
    except Escaped as escaped:
        log_failure("g", error if isinstance(error, Exception) else escaped)
    line = logged(caplog)
    assert line["message"].startswith(message)
    assert type(error).__name__ in line["traceback"]
    assert len(line["traceback"]) < TRACEBACK_MAX + 100


async def test_a_broken_graph_has_no_traceback_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    spec = GraphSpec(graph_id="bad", target="./a.py:g", problem="Graph 'bad' is broken.")
    await run(LoadedGraph(spec=spec), order("bad", input={}))
    [record] = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert (
        record.message == f"A run has failed: {ConfigurationError.__name__}: Graph 'bad' is broken."
    )
    assert record.exc_info is None


# --- the terminal -------------------------------------------------------------------------------


@pytest.fixture
def _loggers_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in set(root.handlers).difference(handlers):
        if isinstance(handler, logging.StreamHandler):
            handler.stream.close()
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def _fail(log: logging.Logger) -> None:
    noting(run_id="r1")
    log.info("A run has ended.")
    try:
        raise ValueError("x" * 1_000_000)
    except ValueError:
        log.exception("A run has failed: ValueError", extra={"node": "ask"})


@pytest.mark.usefixtures("_loggers_as_before")
def test_errors_of_other_processes_are_shown_in_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "terminal.sock"
    # Not pytest's: what is printed while pytest empties its own is lost.
    shown = io.StringIO()
    monkeypatch.setattr(terminal, "err", Console(file=shown, highlight=False, soft_wrap=True))
    settings = LogSettings(form="json", file=tmp_path / "server.log", terminal=path)
    log = logging.getLogger("greenroom.run")
    with terminal.errors_of(path):
        settings.apply(actor="run-1")
        contextvars.copy_context().run(_fail, log)
        until_without_loop(lambda: "characters)" in shown.getvalue())
    seen = shown.getvalue()
    assert "error   A run has failed: ValueError  node=ask  actor=run-1  run_id=r1\n" in seen
    assert "Traceback (most recent call last):\n" in seen
    assert "A run has ended" not in seen
    # Nobody listens any more; the log goes on.
    log.error("unheard")
    lines = (tmp_path / "server.log").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["message"] for line in lines][-1] == "unheard"
    assert not path.exists()


def test_the_page_on_logs_names_the_directory_that_is_used() -> None:
    page = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    assert f"/{RAY_DIR_PREFIX}*/{RAY_DIR_BELOW}/session_latest/logs" in page
