"""What a second attempt sends and drops."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import RunnableConfig

from greenroom.core.runs import RunOrder
from greenroom.graphs.loading import Saver


class Repetition:
    async def drops(self, namespace: tuple[str, ...], mode: str, payload: Any) -> bool:
        return False


async def prepare(
    checkpointer: Saver, order: RunOrder, config: RunnableConfig, input: Any
) -> tuple[Any, RunnableConfig, Repetition | None]:
    return input, config, None
