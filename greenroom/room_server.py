"""The server of a notebook's room: `greenroom serve`, in a child that ends when its parent does.

Run as ``python -m greenroom.room_server [DIRECTORY]``; the settings stand in its environment, and
the directory is deleted when it ends. Ray, its environment and its signal handlers stay out of the
notebook's kernel that way.

Standard input is a pipe whose other end only the kernel has: it ends when the kernel has died,
however it died. A process that the kernel forked could hold it open for longer, so that there is
another parent is a sign too.
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
