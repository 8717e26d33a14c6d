"""A signal at any moment of a start ends it: nothing is left, and no traceback is shown.

The moments are forced: the signal is raised at a place, in this process.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest

from greenroom import running
from greenroom.cli import main
from tests.serving import free_port

INTERRUPTED = SystemError("<built-in method __new__> returned a result with an exception set")


class Server:
    """Stands in for a server: `moment` happens in the middle of its start."""

    def __init__(self, moment: Callable[[], None] | None = None) -> None:
        self.moment = moment
        self.did: list[str] = []

    def __call__(self, *_: Any) -> Server:
        return self

    def start(self, progress: Callable[[str], None]) -> None:
        progress("one")
        if self.moment is not None:
            self.moment()
        progress("two")
        self.did.append("started")

    def stop(self) -> None:
        self.did.append("stopped")


class NoCheck:
    """Stands in for the process that imports the graphs."""

    def __init__(self, *_: Any, **__: Any) -> None: ...
    def __enter__(self) -> NoCheck:
        return self

    def __exit__(self, *_: object) -> None: ...

    def refuse_broken(self, *, wait: bool) -> list[Any]:
        return []


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def as_in_c() -> None:
    try:
        interrupt()
    except BaseException:  # noqa: BLE001 - as C code does it
        raise INTERRUPTED from None


def swallowed() -> None:
    with suppress(BaseException):
        interrupt()


def in_a_destructor() -> None:
    class Dying:
        def __del__(self) -> None:
            interrupt()

    Dying()


@pytest.fixture
def serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[Server], str]:
    """Runs `greenroom serve` around a server; returns what it has printed."""
    (tmp_path / "langgraph.json").write_text('{"graphs": {"a": "./a.py:g"}}')
    monkeypatch.setattr(running, "GraphCheck", NoCheck)
    monkeypatch.setattr(running, "apply_ray_environment", lambda _: None)
    # pytest reports what cannot be raised as a warning, and that is an error.
    monkeypatch.setattr("sys.unraisablehook", lambda _: print("Exception ignored"))
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def run(server: Server) -> str:
        monkeypatch.setattr("greenroom.cli.make_server", server)
        with pytest.raises(SystemExit) as ended:
            main(
                [
                    *("serve", "--config", str(tmp_path), "--port", str(free_port())),
                    *("--data-dir", str(tmp_path / "data")),
                ]
            )
        assert ended.value.code == 0
        assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
        return "".join(capfd.readouterr())

    return run


@pytest.mark.parametrize("moment", [interrupt, as_in_c, swallowed, in_a_destructor])
def test_a_signal_in_the_middle_of_a_step_stops_what_was_started(
    serve: Callable[[Server], str], moment: Callable[[], None]
) -> None:
    server = Server(moment)
    said = serve(server)
    assert server.did == ["stopped"]
    for unwanted in ("Traceback", "Error", "Exception ignored", "exception set"):
        assert unwanted not in said


@pytest.mark.parametrize(
    ("place", "starts"),
    [
        ("read_configuration", False),
        ("check_port", False),
        ("make_haproxy_dir", False),
        ("apply_ray_environment", False),
        ("errors_of", True),
        ("_banner", True),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_a_signal_between_the_steps_leaves_nothing(
    serve: Callable[[Server], str],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    starts: bool,
    late: bool,
) -> None:
    real = getattr(running, place)

    def interrupted(*args: Any) -> Any:
        result = real(*args) if late else None
        interrupt()
        return result or nullcontext()

    monkeypatch.setattr(running, place, interrupted)
    server = Server()
    said = serve(server)
    assert ("stopped" in server.did) is starts
    assert "Traceback" not in said
    assert "Error" not in said


def test_a_second_signal_is_not_needed_when_the_first_one_was_swallowed_at_the_end(
    serve: Callable[[Server], str],
) -> None:
    class Late(Server):
        def start(self, progress: Callable[[str], None]) -> None:
            swallowed()

    server = Late()
    serve(server)
    assert server.did == ["stopped"]
