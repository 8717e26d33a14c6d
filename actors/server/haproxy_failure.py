"""Says in a sentence why HAProxy does not start."""

from __future__ import annotations

import re

from greenroom.core.errors import ConfigurationError

CRASHED = "HAProxy crashed during startup:"


def haproxy_failure(error: Exception) -> ConfigurationError | None:
    """Returns the error for users; None if the error does not say that HAProxy has ended.

    Args:
        error: Serve's; in its text stands what HAProxy has said.
    """
    _, crashed, said = str(error).partition(CRASHED)
    if not crashed:
        return None
    alerts = re.findall(r"\[ALERT\]\s*\(\d+\) : (.+)", said)
    reason = (alerts or said.strip().splitlines() or ["it said nothing"])[0]
    reason = re.sub(r"^\[\S*haproxy\S* *[^]]*\] ", "", reason).strip().rstrip(".")
    return ConfigurationError(
        f"HAProxy does not start here: {reason}. With --no-haproxy (GREENROOM_HAPROXY=false) Ray"
        " Serve's own proxy answers instead."
    )
