"""A start that takes as long as it takes: on a busy machine Ray's own time-outs are too short.

Ray gives its node 30 s and Serve its proxies 60 s, and neither can be set. A step that has run out
of time is done again, from a clean beginning, for as long as the start's own patience lasts.
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
    """Does a step again that ran out of time.

    Args:
        step: one that raises an error which says "timed out" or "not available after".
        what: is started, for the sentence.
        patience_s: no try begins later than this.
        clean: takes away what a failed try has left.

    Raises:
        ConfigurationError: it never came to its end within ``patience_s``.
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
