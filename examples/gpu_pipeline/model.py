"""A Ray Serve deployment that holds a network and answers many conversations at once.

A replica has one loop. Between two tokens it takes in whoever has come and drops whoever has left,
and then makes one step for all of them: dynamic batching, as engines for large models do it.
Graphs call `chat` by `greenroom.models.ServeChatModel`.

The weights are random, so what it says means nothing, and of a tool it only knows the schema: it
keeps to that as a decoder with a grammar would.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ray import serve

if TYPE_CHECKING:
    from torch import Tensor

Chunk = dict[str, Any]

DEFAULT_TOKENS = 40
STRING_TOKENS = 3


@dataclass(slots=True, eq=False)
class Row:
    """A conversation that is being answered: a row of the batch."""

    token: int
    state: Tensor
    left: int
    said: asyncio.Queue[int | Exception] = field(default_factory=asyncio.Queue)

    async def next(self) -> int:
        token = await self.said.get()
        if isinstance(token, Exception):
            raise token
        return token


@serve.deployment(max_ongoing_requests=1000, ray_actor_options={"num_cpus": 1})
class TinyModel:
    """The network behind OpenAI's chat completions.

    Args:
        max_batch: conversations that share a step; with 1 they are answered one after the other.
        width: of the network.
    """

    def __init__(self, max_batch: int = 64, width: int = 512) -> None:
        # Not at the top: whoever only deploys this need not have torch.
        from gpu_pipeline.network import WORDS, Network, device_of_this_process

        self._words = WORDS
        self._network = Network(width, device_of_this_process())
        self._max_batch = max_batch
        self._waiting: asyncio.Queue[Row] = asyncio.Queue()
        self._batching: asyncio.Task[None] | None = None
        self._steps = 0
        self._tokens = 0

    async def chat(self, request: dict[str, Any]) -> AsyncIterator[Chunk]:
        """Answers a conversation token by token; whoever stops reading frees the place.

        Args:
            request: ``messages``, and if given ``max_tokens``, ``tools`` and ``tool_choice``.
        """
        length = int(request.get("max_tokens") or DEFAULT_TOKENS)
        row = self._admit(request["messages"], length)
        try:
            tool = _wanted_tool(request)
            if tool is None:
                for _ in range(length):
                    yield _said(f"{self._words[await row.next()]} ")
            else:
                yield _called(id=f"call-{row.token}", name=tool["name"], arguments="{")
                fields = tool.get("parameters", {}).get("properties", {})
                for number, (name, schema) in enumerate(fields.items()):
                    value = await self._value(schema, row)
                    comma = ", " if number else ""
                    yield _called(arguments=f"{comma}{json.dumps(name)}: {json.dumps(value)}")
                yield _called(arguments="}")
            yield _ended("tool_calls" if tool else "stop")
        finally:
            row.left = 0

    async def counts(self) -> dict[str, Any]:
        """What this replica has done so far, and on which device."""
        return {
            "device": str(self._network.device),
            "steps": self._steps,
            "tokens": self._tokens,
            "waiting": self._waiting.qsize(),
        }

    def _admit(self, messages: list[dict[str, Any]], length: int) -> Row:
        digest = hashlib.sha256(json.dumps(messages, sort_keys=True).encode()).digest()
        first = int.from_bytes(digest[:4], "big") % len(self._words)
        row = Row(first, self._network.blank(), length)
        self._waiting.put_nowait(row)
        if self._batching is None:
            self._batching = asyncio.create_task(self._batch())
        return row

    async def _batch(self) -> None:
        rows: list[Row] = []
        while True:
            rows = [row for row in rows if row.left > 0]
            if not rows:
                rows = [await self._waiting.get()]
            while len(rows) < self._max_batch and not self._waiting.empty():
                rows.append(self._waiting.get_nowait())
            tokens, states = [row.token for row in rows], [row.state for row in rows]
            try:
                # In a thread: tokens of the last step are sent while the next one is computed.
                tokens, states = await asyncio.to_thread(self._network.step, tokens, states)
            except RuntimeError as error:  # out of memory, say: those concerned hear it
                for row in rows:
                    row.left = 0
                    row.said.put_nowait(error)
                continue
            self._steps += 1
            self._tokens += len(rows)
            for row, token, state in zip(rows, tokens, states, strict=True):
                row.token, row.state = token, state
                row.left -= 1
                row.said.put_nowait(token)

    async def _value(self, schema: Mapping[str, Any], row: Row) -> Any:
        """Something that the schema allows, chosen by the network."""
        if "enum" in schema:
            return schema["enum"][await row.next() % len(schema["enum"])]
        match schema.get("type"):
            case "integer" | "number":
                return await row.next() % 100
            case "boolean":
                return await row.next() % 2 == 0
            case _:
                return " ".join([self._words[await row.next()] for _ in range(STRING_TOKENS)])


def _wanted_tool(request: Mapping[str, Any]) -> dict[str, Any] | None:
    """The tool to call now; after a tool's answer only one that was asked for by its name."""
    tools = [tool["function"] for tool in request.get("tools") or ()]
    match request.get("tool_choice", "auto"):
        case {"function": {"name": name}}:
            return next(tool for tool in tools if tool["name"] == name)
        case "none":
            return None
        case "auto" if request["messages"][-1]["role"] == "tool":
            return None
    return tools[0] if tools else None


def _said(text: str) -> Chunk:
    return {"choices": [{"delta": {"content": text}}]}


def _called(*, id: str | None = None, name: str | None = None, arguments: str) -> Chunk:
    call = {"index": 0, "id": id, "function": {"name": name, "arguments": arguments}}
    return {"choices": [{"delta": {"tool_calls": [call]}}]}


def _ended(reason: str) -> Chunk:
    return {"choices": [{"delta": {}, "finish_reason": reason}], "model": "tiny"}


app = TinyModel.bind()
one_by_one = TinyModel.bind(max_batch=1)

# Shares of one GPU: Ray packs whoever fits. Together with gpu.json's graphs they make up a whole.
on_gpu = TinyModel.options(ray_actor_options={"num_cpus": 1, "num_gpus": 0.4})
app_on_gpu = on_gpu.bind(width=2048)
one_by_one_on_gpu = on_gpu.options(ray_actor_options={"num_cpus": 1, "num_gpus": 0.2}).bind(
    max_batch=1, width=2048
)
