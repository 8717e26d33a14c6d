"""The entry point of the command ``greenroom``, before any other import.

Python shows a traceback for a Ctrl-C during an import. Nothing has been started at that time, so
the signal ends the process, as it ends programs that do not handle it.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Executes a command line, by default that of this process; always ends in SystemExit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    from greenroom.cli import main as run

    run(arguments)
