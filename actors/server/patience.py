"""Repeats steps of a start that time out: on a busy machine Ray's own time-outs are too short.

Ray gives its node 30 s and Serve gives its proxies 60 s, and neither can be set. A step that times
out is cleaned up and repeated within the start's own patience.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from greenroom.core.errors import ConfigurationError

T = TypeVar("T")


def until_in_time(
    step: Callable[[], T], *, what: str, patience_s: float, clean: Callable[[], None]
) -> T:
    """Performs a step; repeats it after a time-out.

    Args:
        step: the step. An error whose text has "timed out" or "not available after" is a time-out.
        what: the name of the started part, for the error.
        patience_s: no repetition begins later than this many seconds after the first try.
        clean: removes the remains of a failed try.

    Returns:
        the step's result.

    Raises:
        ConfigurationError: every try within ``patience_s`` timed out.
        Exception: any other error of the step.
    """
    deadline_s = time.monotonic() + patience_s
    while True:
        try:
            return step()
        except Exception as error:
            if not _ran_out_of_time(error):
                raise
            clean()
            if time.monotonic() >= deadline_s:
                raise ConfigurationError(
                    f"{what} did not start within {patience_s:g} s: {error} The machine may be too"
                    " busy; GREENROOM_START_PATIENCE_S is how long a start may take."
                ) from error


def _ran_out_of_time(error: Exception) -> bool:
    said = str(error)
    return "timed out" in said or "not available after" in said
