"""Where a process runs, so that another process of the same machine can look at it."""

from __future__ import annotations

import os
import platform
import threading
import time
from dataclasses import dataclass

import ray

from greenroom.machine import process_table


@dataclass(frozen=True, kw_only=True, slots=True)
class ActorProcess:
    """The process of an actor.

    Attributes:
        host: the name of its machine.
        node: the id of its Ray node; empty without Ray.
        table: the table of processes in which ``pid`` counts (`machine.process_table`).
        since_s: the Unix time in seconds at which it was ready.
        dumps: the descriptor of the file that gets its stacks on a signal; -1 without one.
        thread_id: the thread that made this, which executes graphs.
        debug_port: the port at which a debugger reaches it, or None.
    """

    pid: int
    host: str
    node: str
    table: str
    since_s: float
    dumps: int = -1
    thread_id: int = 0
    debug_port: int | None = None


def here(*, dumps: int = -1, debug_port: int | None = None) -> ActorProcess:
    """Returns the place of this process."""
    return ActorProcess(
        pid=os.getpid(),
        host=platform.node(),
        node=ray.get_runtime_context().get_node_id() if ray.is_initialized() else "",
        table=process_table(),
        since_s=time.time(),
        dumps=dumps,
        thread_id=threading.get_ident(),
        debug_port=debug_port,
    )
