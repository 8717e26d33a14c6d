"""A chat model without a model: it needs no key and no network, and streams like a real one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult


class FakeModel(BaseChatModel):
    """Answers with what `reply` says, word by word.

    Args:
        delay_s: pause before each token, so that a stream can be watched.
    """

    delay_s: float = 0.03

    @property
    def _llm_type(self) -> str:
        return "fake"

    def reply(self, messages: Sequence[BaseMessage]) -> AIMessage:
        """What the model says to a conversation; other examples override this."""
        said = str(messages[-1].text) if messages else ""
        return AIMessage(
            f"You said: {said!r}. I am a fake model, so that is all I can make of it, "
            "but every word of this answer came to you as a token of its own."
        )

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, *_: Any, **__: Any
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.reply(messages))])

    # LangGraph streams tokens to `messages` clients when a model has `_astream`: it then calls it
    # even where a node says `ainvoke`.
    async def _astream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, *_: Any, **__: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        reply = self.reply(messages)
        for token in re.findall(r"\S+\s*", str(reply.text)):
            await asyncio.sleep(self.delay_s)
            yield ChatGenerationChunk(message=AIMessageChunk(content=token))
        if reply.tool_calls:
            yield ChatGenerationChunk(
                message=AIMessageChunk(content="", tool_calls=list(reply.tool_calls))
            )
