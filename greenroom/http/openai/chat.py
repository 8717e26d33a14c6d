"""``POST /v1/chat/completions``: a run, and its answer as a completion or as chunks of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.errors import GreenroomError, NotFound, Unavailable
from greenroom.core.ports import JsonObject
from greenroom.core.scopes import SERVER
from greenroom.http.answering import json
from greenroom.http.bodies import parse
from greenroom.http.creation import NewRun
from greenroom.http.edge import Edge, dialect_of, edge_of
from greenroom.http.following import cancelling, event_stream
from greenroom.http.openai.errors import RunFailed, error_body, failure_of, refusal
from greenroom.http.openai.inputs import chat_messages
from greenroom.http.openai.late import late_answer
from greenroom.http.openai.outputs import Said, ToolCall
from greenroom.http.openai.parameters import configurable_of
from greenroom.http.openai.served import model_of, seconds_of
from greenroom.http.openai.speech import Answered, spoken
from greenroom.http.openai.states import of_output
from greenroom.http.openai.turns import OF_OPENAI, Place, Turn, begun, place_of
from greenroom.http.parameters import thread_id_of
from greenroom.http.streaming import close
from greenroom.wire.encoding import dumps, loads
from greenroom.wire.openai_models import ChatCompletionCreate

COMPLETION = "chat.completion"
_DONE = b"data: [DONE]\r\n\r\n"
_BREAK = "\n\n"
"""Between two messages of one answer."""
_GONE = "The run was deleted before it ended."


async def create(request: Request) -> Response:
    """Answers a request for a completion.

    Raises:
        GreenroomError: the request is refused.
    """
    asked = await parse(request, ChatCompletionCreate)
    edge, dialect = edge_of(request), dialect_of(request)
    messages = chat_messages(asked.messages)
    model = await model_of(edge, dialect, asked.model)
    metadata = dict(asked.metadata or {})
    named = metadata.pop("thread_id", None)
    place = Place(temporary=True)
    if named is not None:
        place = await place_of(edge, thread_id_of(dialect, named))
    run = await begun(
        request,
        Turn(
            model=model,
            place=place,
            messages=messages,
            configurable=configurable_of(asked, model),
            metadata=metadata,
            own={"object": COMPLETION},
        ),
    )
    completion = Completion(edge=edge, run=run, model=asked.model, after=_after(run))
    leave = cancelling(edge, run.thread_id, run.run_id, SERVER)
    if not asked.stream:
        return late_answer(edge, completion.whole, leave)
    options = asked.stream_options or {}
    chunks = completion.chunks(bool(options.get("include_usage")))
    return event_stream(edge, chunks, leave=leave)


def _after(run: NewRun) -> str | None:
    return loads(run.created.metadata).get(OF_OPENAI, {}).get("after")


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """The answer of a run.

    Attributes:
        model: as the request names it.
        after: the id of the thread's last message before the run.
    """

    edge: Edge
    run: NewRun
    model: str
    after: str | None

    async def whole(self) -> Response:
        """Returns the completion, or the error of its run."""
        try:
            said = await self._said()
        except GreenroomError as error:
            return refusal(error)
        calls = said.calls()
        message: JsonObject = {"role": "assistant", "content": said.answer(), "refusal": None}
        if calls:
            message["tool_calls"] = [_call(each) for each in calls]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _end(said)}
        return json(self._object(COMPLETION, [choice], _usage(said)))

    async def chunks(self, with_usage: bool) -> AsyncIterator[bytes]:
        """Yields the frames of the stream."""
        # Asked from the beginning: a temporary run may be gone when its events are over.
        ending = asyncio.ensure_future(self._said())
        none: JsonObject = {"usage": None} if with_usage else {}

        def chunk(delta: JsonObject, reason: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
            return _frame(self._object(f"{COMPLETION}.chunk", [choice], none))

        pieces = spoken(self.edge, self.run.run_id, self.run.created.placement)
        try:
            yield chunk({"role": "assistant", "content": "", "refusal": None})
            last: str | None = None
            async for piece in pieces:
                if isinstance(piece, Answered):
                    continue
                is_new = last not in (None, piece.message_id)
                last = piece.message_id
                yield chunk({"content": _BREAK + piece.text if is_new else piece.text})
            said = await ending
            calls = said.calls()
            question = said.answer() if said.interrupts else None
            if question is not None:
                yield chunk({"content": question if last is None else _BREAK + question})
            if calls:
                indexed = [{"index": i, **_call(each)} for i, each in enumerate(calls)]
                yield chunk({"tool_calls": indexed})
            yield chunk({}, _end(said))
            if with_usage:
                yield _frame(self._object(f"{COMPLETION}.chunk", [], _usage(said)))
            yield _DONE
        except Unavailable:
            raise  # the connection is broken off, which a client can tell from an end
        except GreenroomError as error:
            yield _frame(error_body(error))
        finally:
            await close(pieces)
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)

    async def _said(self) -> Said:
        """Waits for the end of the run.

        Raises:
            RunFailed: it has no answer.
        """
        try:
            end = await self.edge.runtime.outcome(self.run.run_id, self.run.created.placement)
        except NotFound:
            raise RunFailed(_GONE) from None
        if (failure := failure_of(end)) is not None:
            raise failure
        return Said.by(of_output(loads(end.output)), self.run.run_id, self.after)

    def _object(self, kind: str, choices: list[JsonObject], more: JsonObject) -> JsonObject:
        return {
            "id": f"chatcmpl-{self.run.run_id}",
            "object": kind,
            "created": seconds_of(self.run.created.created_at),
            "model": self.model,
            "choices": choices,
            **more,
        }


def _usage(said: Said) -> JsonObject:
    usage = said.usage()
    return {"usage": usage.of_completion() if usage is not None else None}


def _end(said: Said) -> str:
    return "tool_calls" if said.calls() else said.incomplete() or "stop"


def _call(call: ToolCall) -> JsonObject:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _frame(value: Any) -> bytes:
    return b"data: %b\r\n\r\n" % dumps(value)
