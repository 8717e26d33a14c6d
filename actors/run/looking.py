"""What a run actor's process does at this moment: nodes, threads, asyncio tasks.

It is asked on a loop of its own thread, so that it answers while user code blocks the loop that
executes graphs. Code that holds the interpreter's lock stops this as well: then another process has
the stacks written by a signal (`actors.common.neighbours`).

Each thread and task has its *owner*, the run whose code it executes. Frames are shown to those who
may read that run.
"""

from __future__ import annotations

import asyncio
import faulthandler
import linecache
import signal
import sys
import threading
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any

from actors.common.neighbours import STACKS
from actors.run.attempt import Attempt
from actors.run.node_threads import NodeThreads
from actors.run.reading import Shelf
from greenroom.graphs.containment import owner_of
from greenroom.machine import shared_file

MOST_FRAMES = 100
"""Of one stack, the innermost."""


class Looking:
    """Looks at this process.

    Args:
        shelf: the attempts that are executed here.
        threads: the threads of synchronous nodes.

    Attributes:
        dumps: as of `ActorProcess`; opened by `begin`.
    """

    def __init__(self, shelf: Shelf[Attempt], threads: NodeThreads) -> None:
        self._shelf = shelf
        self._threads = threads
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id = 0
        self.dumps = -1

    def begin(self) -> None:
        """Has a signal write the stacks. Called on the loop that executes graphs."""
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self.dumps = shared_file(STACKS)
        if self.dumps >= 0:
            faulthandler.register(signal.SIGUSR2, file=self.dumps, all_threads=True, chain=False)

    def nodes(self) -> dict[str, list[dict[str, Any]]]:
        """Returns the nodes that run now, by run."""
        return {
            each.order.run_id: [
                {
                    "node": note.name,
                    "namespace": note.namespace,
                    "step": note.step,
                    "since_ms": note.start_ms,
                }
                for note in each.nodes.running
            ]
            for each in self._shelf.current
        }

    def notes(self, run_id: str, attempt: int) -> list[list[Any]] | None:
        """Returns the packed notes of the nodes of an attempt that is executed here, or None."""
        found = self._shelf.executing(run_id)
        if found is None or found.order.attempt != attempt:
            return None
        return [note.packed() for note in found.nodes.all]

    def look(self) -> dict[str, Any]:
        """Returns nodes, threads and tasks; frames are innermost first."""
        return {
            "nodes": self.nodes(),
            "threads": [*self._of_threads()],
            "tasks": [*self._of_tasks()],
        }

    def _of_threads(self) -> Iterator[dict[str, Any]]:
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for thread_id, frame in sys._current_frames().items():  # pyright: ignore[reportPrivateUsage]
            if thread_id == threading.get_ident():
                continue
            owner = self._threads.run_of(thread_id)
            if thread_id == self._thread_id and self._loop is not None:
                task = asyncio.current_task(self._loop)
                owner = owner_of(task) if task is not None else ""
            yield {
                "name": names.get(thread_id, ""),
                "id": thread_id,
                "owner": owner,
                "frames": _frames(frame),
            }

    def _of_tasks(self) -> Iterator[dict[str, Any]]:
        if self._loop is None:
            return
        nodes = {note.name for each in self._shelf.current for note in each.nodes.running}
        for task in asyncio.all_tasks(self._loop):
            owner, name = owner_of(task), task.get_name()
            yield {
                "name": name,
                "owner": owner,
                "node": name if name in nodes else None,
                "frames": _awaited(task.get_coro()),
            }


def _frames(frame: FrameType | None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while frame is not None and len(found) < MOST_FRAMES:
        found.append(_shown(frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return found


def _awaited(inside: Any) -> list[dict[str, Any]]:
    """Returns the frames of a coroutine that waits: what it awaits is further in."""
    found: list[dict[str, Any]] = []
    while inside is not None and len(found) < MOST_FRAMES:
        kind = next((k for k in ("cr", "gi", "ag") if hasattr(inside, f"{k}_frame")), None)
        if kind is None:
            break
        frame: FrameType | None = getattr(inside, f"{kind}_frame")
        if frame is not None:
            found.append(_shown(frame.f_code, frame.f_lineno))
        inside = getattr(inside, "gi_yieldfrom" if kind == "gi" else f"{kind}_await", None)
    return found[::-1]


def _shown(code: CodeType, line: int | None) -> dict[str, Any]:
    source = linecache.getline(code.co_filename, line).strip() if line else ""
    name = code.co_qualname
    return {"file": code.co_filename, "line": line, "function": name, "source": source}
