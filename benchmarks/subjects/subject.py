"""What a subject is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from benchmarks.processes import Processes


class Connected(Protocol):
    """A subject that takes runs."""

    async def thread(self) -> str: ...

    async def wait(self, thread_id: str, graph: str, values: dict[str, Any]) -> None: ...

    def stream(
        self, thread_id: str, graph: str, values: dict[str, Any], mode: str
    ) -> AsyncIterator[int]: ...


class Subject(ABC):
    """A program that executes graphs.

    Attributes:
        name: its name in ``--subjects`` and in the results.
        title: its name in the table.
        processes: its processes, while it runs.
    """

    name: str
    title: str
    processes: Processes

    @abstractmethod
    async def start(self) -> float:
        """Starts the subject; returns the seconds until it was ready."""

    @abstractmethod
    async def stop(self) -> None:
        """Ends the subject if it runs."""

    @abstractmethod
    def connect(self, connections: int) -> AbstractAsyncContextManager[Connected]:
        """Returns a connection for a number of concurrent runs."""
