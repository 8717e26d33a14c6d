"""An event loop on a separate thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from greenroom.core.waiting import cancelled

T = TypeVar("T")


class BackgroundLoop:
    """An event loop on a daemon thread; the notebook's own loop is busy while a cell executes."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="room", daemon=True)
        self._thread.start()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Executes ``work`` on the loop; waits for its result."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def close(self) -> None:
        """Cancels all work on the loop, and ends the thread."""
        self.do(_cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


async def _cancel_all() -> None:
    await cancelled([task for task in asyncio.all_tasks() if task is not asyncio.current_task()])
