"""The savers of attempts."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import RunnableConfig

from greenroom.core.faults import Faults
from greenroom.core.runs import RunOrder
from greenroom.persistence.database import Pool
from greenroom.persistence.fenced_saver import FencedSaver
from greenroom.persistence.saving import Saving
from greenroom.persistence.serializing import StateSerializer


def saver_of(
    pool: Pool,
    saving: Saving,
    serde: StateSerializer,
    faults: Faults,
    order: RunOrder,
    is_first: bool,
) -> FencedSaver:
    """Returns the saver of an attempt.

    Args:
        is_first: the thread has no checkpoint.
    """
    return FaultySaver(
        pool,
        saving,
        run_id=order.run_id,
        attempt=order.attempt,
        thread_id=order.thread_id,
        is_first=is_first,
        serde=serde,
        faults=faults,
    )


class FaultySaver(FencedSaver):
    """The saver of an attempt, with fault places for tests."""

    def __init__(
        self,
        pool: Pool,
        saving: Saving,
        *,
        run_id: str,
        attempt: int,
        thread_id: str,
        is_first: bool,
        serde: StateSerializer,
        faults: Faults,
    ) -> None:
        super().__init__(
            pool,
            saving,
            run_id=run_id,
            attempt=attempt,
            thread_id=thread_id,
            is_first=is_first,
            serde=serde,
        )
        self._faults = faults

    async def aput(
        self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any
    ) -> RunnableConfig:
        await self._faults.at("save")
        saved = await super().aput(config, checkpoint, metadata, new_versions)
        await self._faults.at("saved")
        return saved
