"""Steps of a shutdown with a time-out: whatever hangs, the next steps end it by force."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger("greenroom.server")


def bounded(step: Callable[[], None], limit_s: float) -> None:
    """Performs a step of the shutdown; returns when it ends or fails, or after ``limit_s``."""

    def attempt() -> None:
        try:
            step()
        except Exception:  # the next steps end the broken parts by force
            log.debug("a step of the shutdown failed", exc_info=True)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(limit_s)
