"""Repeats steps of a start that time out: on a busy machine Ray's own time-outs are too short.

Ray gives its node 30 s and Serve gives its proxies 60 s, and neither can be set. A step that times
out is cleaned up and repeated, or waited for, within the start's own patience.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from greenroom.core.errors import ConfigurationError

T = TypeVar("T")

ANSWER_S = 5.0
PAUSE_S = 0.1


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
                raise too_late(what, patience_s, str(error)) from error


def until_answered(url: str, patience_s: float) -> None:
    """Returns when the server answers at its address.

    Raises:
        ConfigurationError: it does not within ``patience_s``.
    """
    place = urlsplit(url)
    assert place.hostname is not None
    deadline_s = time.monotonic() + patience_s
    said = ""
    while True:
        # Nobody's HTTP proxy is asked, whatever the environment says.
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=ANSWER_S)
        try:
            connection.request("GET", "/ok")
            status = connection.getresponse().status
            if status == 200:
                return
            said = f"{url}/ok answers {status}."
        except (OSError, http.client.HTTPException) as error:
            said = f"{url} does not answer ({error})."
        finally:
            connection.close()
        if time.monotonic() >= deadline_s:
            raise too_late("The port", patience_s, said)
        time.sleep(PAUSE_S)


def too_late(what: str, patience_s: float, said: str = "") -> ConfigurationError:
    """Returns the error of a part that did not start in time.

    Args:
        what: the name of the part.
        said: sentences that say more.
    """
    return ConfigurationError(
        f"{what} did not start within {patience_s:g} s{f': {said}' if said else '.'} The machine"
        " may be too busy; GREENROOM_START_PATIENCE_S is how long a start may take."
    )


def _ran_out_of_time(error: Exception) -> bool:
    said = str(error)
    return "timed out" in said or "not available after" in said
