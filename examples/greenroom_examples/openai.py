"""A chat with a real model behind any OpenAI-compatible API.

Set OPENAI_API_KEY for OpenAI, or OPENAI_BASE_URL for another server (vLLM, Ollama, llama.cpp, ...,
for example ``http://127.0.0.1:11434/v1``), and OPENAI_MODEL. Without them the graph imports all the
same, and a run says what is missing.

It speaks the API with `httpx`, so that the examples need nothing that the server does not need
itself. In a project of your own, `langchain-openai` brings tools, retries and much more.

Input: ``{"messages": [{"role": "user", "content": "Hello"}]}``
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    AnyMessage,
    BaseMessage,
    convert_to_openai_messages,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict


class OpenAICompatible(BaseChatModel):
    """Streams chat completions; reads its configuration when it is called, not when imported."""

    timeout_s: float = 60.0

    @property
    def _llm_type(self) -> str:
        return "openai-compatible"

    def _request(self, messages: list[BaseMessage], *, stream: bool) -> dict[str, Any]:
        key = os.environ.get("OPENAI_API_KEY")
        base_url = os.environ.get("OPENAI_BASE_URL")
        if not key and not base_url:
            raise RuntimeError(
                "This graph needs a model: set OPENAI_API_KEY, or OPENAI_BASE_URL for a"
                " server of your own, then start Greenroom again."
            )
        return {
            "url": (base_url or "https://api.openai.com/v1").rstrip("/") + "/chat/completions",
            "headers": {"authorization": f"Bearer {key}"} if key else {},
            "timeout": self.timeout_s,
            "json": {
                "model": os.environ.get("OPENAI_MODEL", "gpt-4o-mini"),
                "messages": convert_to_openai_messages(messages),
                "stream": stream,
            },
        }

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, *_: Any, **__: Any
    ) -> ChatResult:
        answer = httpx.post(**self._request(messages, stream=False)).raise_for_status().json()
        content = answer["choices"][0]["message"]["content"]
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content))])

    async def _astream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, *_: Any, **__: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        request = self._request(messages, stream=True)
        async with (
            httpx.AsyncClient() as client,
            client.stream("POST", **request) as response,
        ):
            if response.is_error:
                await response.aread()
                raise RuntimeError(f"The model answered {response.status_code}: {response.text}")
            async for line in response.aiter_lines():
                if not line.startswith("data:") or line.endswith("[DONE]"):
                    continue
                for choice in json.loads(line.removeprefix("data:"))["choices"]:
                    token = choice["delta"].get("content")
                    if token:
                        yield ChatGenerationChunk(message=AIMessageChunk(content=token))


model = OpenAICompatible()


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


async def answer(state: State) -> State:
    return {"messages": [await model.ainvoke(state["messages"])]}


graph = StateGraph(State).add_node(answer).add_edge(START, "answer").compile()
