"""The server of a notebook's room: `greenroom serve` in a child process that ends with its parent.

Started as ``python -m greenroom.room_server [DIRECTORY]``. The environment has the settings; the
process deletes the directory at its end. So Ray, its environment and its signal handlers stay out
of the notebook's kernel.

Standard input is a pipe, and only the kernel has its other end. The pipe ends when the kernel has
died, however it died. A process that the kernel forked could hold the pipe open for longer, so a
change of the parent process is a sign too.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import threading
from collections.abc import Sequence

from greenroom import cli

PARENT_LOOK_S = 1.0


def main(arguments: Sequence[str]) -> None:
    threading.Thread(target=_end_with, args=(os.getppid(),), name="parent", daemon=True).start()
    try:
        cli.main(["serve"])
    except SystemExit as ended:
        # After a start that failed the parent still has the database; it deletes the directory.
        if not ended.code:
            for directory in arguments:
                shutil.rmtree(directory, ignore_errors=True)
        raise


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        readable, _, _ = select.select([0], [], [], PARENT_LOOK_S)
        if readable and not os.read(0, 1024):
            break
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(sys.argv[1:])
