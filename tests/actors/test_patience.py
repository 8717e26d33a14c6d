"""A start on a machine that is too busy for Ray's own time-outs."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from actors.server.patience import until_answered, until_in_time
from greenroom.core.errors import ConfigurationError

LATE = "The current node timed out during startup. This could happen because ..."
LATE_PROXIES = "HTTP proxies not available after 60s."


@pytest.mark.parametrize("late", [Exception(LATE), TimeoutError(LATE_PROXIES)])
def test_a_step_that_is_late_is_done_again_from_a_clean_beginning(late: Exception) -> None:
    done: list[str] = []

    def step() -> str:
        done.append("step")
        if done.count("step") < 3:
            raise late
        return "started"

    clean = lambda: done.append("clean")  # noqa: E731
    assert until_in_time(step, what="Ray", patience_s=60, clean=clean) == "started"
    assert done == ["step", "clean", "step", "clean", "step"]


def test_a_step_that_is_wrong_is_not_done_again() -> None:
    def step() -> None:
        raise ValueError("no such option")

    with pytest.raises(ValueError, match="no such option"):
        until_in_time(step, what="Ray", patience_s=60, clean=pytest.fail)


def test_patience_has_an_end_that_says_what_to_set() -> None:
    cleaned: list[None] = []

    def step() -> None:
        raise TimeoutError(LATE_PROXIES)

    with pytest.raises(ConfigurationError, match="GREENROOM_START_PATIENCE_S") as refused:
        until_in_time(step, what="Ray Serve", patience_s=0, clean=lambda: cleaned.append(None))
    assert "Ray Serve did not start within 0 s" in refused.value.message
    assert cleaned == [None]


def test_a_port_that_answers_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    statuses = [503, 500, 200]
    # Nobody's proxy is in the way.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    class Late(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses.pop(0))
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Late) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            until_answered(f"http://127.0.0.1:{server.server_port}", 60)
        finally:
            server.shutdown()
            thread.join()
    assert statuses == []


def test_a_port_that_never_answers_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"The port did not start .*:1 does not answer"):
        until_answered("http://127.0.0.1:1", 0)
