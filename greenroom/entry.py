"""Where the command ``greenroom`` begins, before anything else is imported.

Python would show a traceback for a Ctrl-C while it imports. Nothing has been started by then, so
the signal ends the process, as it ends programs that do not handle it.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line, by default this process's; always ends in SystemExit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    from greenroom.cli import main as run

    run(arguments)
