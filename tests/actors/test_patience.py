"""A start on a machine that is too busy for Ray's own time-outs."""

from __future__ import annotations

import pytest

from actors.server.patience import until_in_time
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
