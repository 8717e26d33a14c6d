"""Settings of the garbage collector for a process that loads libraries and graphs, and then lives.

Libraries and graphs are some hundred thousand objects that live as long as the process. With
Python's defaults the collector walks them again and again: a sixth of the CPU of a start, and later
tens of milliseconds that delay the tokens of a stream.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator
from pathlib import Path

YOUNGEST = 10_000
"""The number of new objects that starts a collection; Python's default is 700."""
PROGRAM = "default_worker.py"
"""The program of Ray's workers (`tests/actors/test_garbage.py` asks Ray)."""


def pause_collections() -> None:
    """Stops collections until `freeze_startup_objects`, in a worker of Ray's only: other processes
    that import these modules never call that."""
    if Path(sys.argv[0]).name == PROGRAM:
        gc.disable()


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """Imports within it collect nothing, and what they have made is never looked through."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def freeze_startup_objects() -> None:
    """Excludes all current objects from garbage collection; raises the threshold for new ones.

    Nothing is collected before: of what a start makes, a few thousand objects are garbage, and to
    find them takes a tenth of a second.
    """
    gc.freeze()
    gc.set_threshold(YOUNGEST, 20, 20)
    gc.enable()
