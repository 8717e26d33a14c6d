"""Settings of the garbage collector for a process that has loaded its libraries and graphs.

Libraries and graphs are some hundred thousand objects that live as long as the process. With
Python's defaults the collector walks them again and again: a collection of the oldest generation
takes tens of milliseconds and delays the tokens of a stream.
"""

from __future__ import annotations

import gc

YOUNGEST = 10_000
"""The number of new objects that starts a collection; Python's default is 700."""


def freeze_startup_objects() -> None:
    """Excludes all current objects from garbage collection; raises the threshold for new ones."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNGEST, 20, 20)
