"""Deployments for the tests: the example's model, small, and one of each other kind."""

from __future__ import annotations

import asyncio
import json
import sys
import types
from collections.abc import AsyncIterator
from typing import Any

from gpu_pipeline.model import TinyModel
from pydantic import BaseModel
from ray import serve

# The share of a GPU is real to Ray, which places by it; the server's test gives Ray one that the
# machine need not have.
tiny = TinyModel.options(ray_actor_options={"num_cpus": 1, "num_gpus": 0.5}).bind(width=64)


class ChatCompletionRequest(BaseModel):
    """As vLLM's, as far as it is used here."""

    messages: list[dict[str, Any]]
    model: str
    stream: bool
    stream_options: dict[str, Any]


@serve.deployment(max_ongoing_requests=100, ray_actor_options={"num_cpus": 0.1})
class Others:
    """`chat` is as in `ray.serve.llm`: a coroutine that returns a generator of gathered lines."""

    def __init__(self) -> None:
        # vLLM, whose class the real module passes on, is not installed here.
        module: Any = types.ModuleType("ray.serve.llm.openai_api_models")
        module.ChatCompletionRequest = ChatCompletionRequest
        package: Any = types.ModuleType("ray.serve.llm")
        package.openai_api_models = module
        sys.modules |= {package.__name__: package, module.__name__: module}
        self._begun = 0
        self._cancelled = 0

    async def chat(
        self, request: ChatCompletionRequest, raw_request_info: None = None
    ) -> AsyncIterator[list[str]]:
        return self._lines(request)

    async def _lines(self, request: ChatCompletionRequest) -> AsyncIterator[list[str]]:
        words = [
            request.model,
            "heard",
            f"{type(request).__name__}:",
            request.messages[-1]["content"],
        ]
        chunks = [{"choices": [{"delta": {"content": f"{word} "}}]} for word in words]
        lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
        yield lines[:2]
        yield [*lines[2:], "data: [DONE]\n\n"]

    async def endless(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        self._begun += 1
        try:
            yield {"choices": [{"delta": {"content": "and "}}]}
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self._cancelled += 1
            raise

    async def refuse(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        yield {"choices": [{"delta": {"content": "Well, "}}]}
        raise ValueError("That is too long for me.")

    async def counts(self) -> dict[str, int]:
        return {"begun": self._begun, "cancelled": self._cancelled}


others = Others.bind()
