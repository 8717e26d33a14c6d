"""`greenroom serve` whose database has a disk of its own, which is small: ``DISK_MIB``.

The disk is mounted in a mount namespace of this process and goes with it. Others reach it through
``/proc/<process>/root``.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from greenroom import cli

CLONE_NEWNS = 0x00020000
MS_REC = 0x4000
MS_PRIVATE = 0x40000


def mount_small_disk(directory: Path, mib: int) -> None:
    """Raises OSError where this is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *arguments: object) -> None:
        if getattr(libc, name)(*arguments) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    directory.mkdir(parents=True, exist_ok=True)
    call("unshare", CLONE_NEWNS)
    call("mount", b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None)
    options = f"size={mib}m,mode=755".encode()
    call("mount", b"none", bytes(directory), b"tmpfs", ctypes.c_ulong(0), options)


if __name__ == "__main__":
    where = Path(sys.argv[sys.argv.index("--data-dir") + 1])
    mount_small_disk(where / "pg", int(os.environ.pop("DISK_MIB")))
    sys.argv[1:] = ["serve", *sys.argv[1:]]
    cli.main()
