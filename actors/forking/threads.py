"""How many threads numpy has in a forked process.

numpy reads that from the environment while it is imported. A fork has it from the fork server; Ray
says only later how many CPUs the process's actor has.
"""

from __future__ import annotations

import os
import sys

from actors.forking.server import THREADS


def follow_environment() -> None:
    """Gives numpy the threads that the environment says; does nothing if numpy is not imported."""
    wanted = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get(THREADS, "")
    if "numpy" in sys.modules and wanted.isdecimal() and wanted != "1":
        from threadpoolctl import threadpool_limits

        threadpool_limits(int(wanted), user_api="blas")
