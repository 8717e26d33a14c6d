"""The event stream of a response.

    response.created, response.in_progress
    for each item of the output:
        response.output_item.added
        a message:   response.content_part.added, response.output_text.delta …,
                     response.output_text.done, response.content_part.done
        a call:      response.function_call_arguments.delta and .done
        response.output_item.done
    response.completed, response.incomplete or response.failed, with the whole response

Texts come as the run says them. The response at the end is made of what the run has left, as
`GET /v1/responses/{id}` shows it: it decides where the two differ, e.g. over a text that a model
said and the graph did not keep.

The events follow from those of the run, so their numbers are the same for each reader, and one that
lost its connection goes on behind the last one that it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from greenroom.core.errors import GreenroomError, Unavailable
from greenroom.core.ports import JsonObject
from greenroom.core.runs import Outcome, Placement, RunStatus
from greenroom.http.edge import Edge
from greenroom.http.openai.errors import error_body
from greenroom.http.openai.items import message_item, text_part, tool_item
from greenroom.http.openai.response_objects import Record, ended, reread
from greenroom.http.openai.speech import Answered, Piece, spoken
from greenroom.http.streaming import close
from greenroom.wire.encoding import dumps
from greenroom.wire.sse import event_frame

_ENDS = {"completed": "response.completed", "incomplete": "response.incomplete"}


class Events:
    """The events of one response for one reader.

    Args:
        record: of its run.
        placement: of the run, if known.
        resumable: the run's events are kept.
    """

    def __init__(
        self, *, edge: Edge, record: Record, placement: Placement | None, resumable: bool = False
    ) -> None:
        self._edge = edge
        self._record = record
        self._placement = placement
        self._resumable = resumable
        self._number = -1
        self._index = -1
        self._open: tuple[str, str] | None = None

    async def frames(self, after: int) -> AsyncIterator[bytes]:
        """Yields the frames behind the event with the number ``after``; -1 for all."""
        # Asked from the beginning: a temporary run may be gone when its events are over.
        ending = asyncio.ensure_future(self._outcome())
        pieces = spoken(self._edge, self._record.run_id, self._placement, resumable=self._resumable)
        try:
            for event in self._begin():
                if event["sequence_number"] > after:
                    yield _frame(event)
            async for piece in pieces:
                for event in self._heard(piece):
                    if event["sequence_number"] > after:
                        yield _frame(event)
            for event in self._end(await ending):
                if event["sequence_number"] > after:
                    yield _frame(event)
        except Unavailable:
            raise  # the connection is broken off, which a client can tell from an end
        except GreenroomError as error:
            body: JsonObject = error_body(error)["error"]
            yield _frame(self._event("error", **{**body, "type": "error"}))
        finally:
            await close(pieces)
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)

    async def _outcome(self) -> JsonObject:
        runtime, record = self._edge.runtime, self._record
        end: Outcome = await runtime.outcome(
            record.run_id, self._placement, over=record.status.is_terminal
        )
        return ended(await reread(self._edge, record), end)

    def _event(self, kind: str, **more: object) -> JsonObject:
        self._number += 1
        return {"type": kind, "sequence_number": self._number, **more}

    def _begin(self) -> Iterator[JsonObject]:
        begun = self._record.shown(status=RunStatus.RUNNING)
        yield self._event("response.created", response=begun)
        yield self._event("response.in_progress", response=begun)

    # --- while the run goes on ------------------------------------------------------------------

    def _heard(self, piece: Piece | Answered) -> Iterator[JsonObject]:
        if isinstance(piece, Answered):
            yield from self._close()
            yield from self._whole(tool_item(piece.message))
            return
        if self._open is None or self._open[0] != piece.message_id:
            yield from self._close()
            yield from self._open_message(piece.message_id)
        assert self._open is not None
        message_id, text = self._open
        self._open = (message_id, text + piece.text)
        yield self._event("response.output_text.delta", **self._at(), delta=piece.text, logprobs=[])

    def _open_message(self, message_id: str) -> Iterator[JsonObject]:
        self._index += 1
        self._open = (message_id, "")
        item: JsonObject = {**message_item(message_id, "", "in_progress"), "content": []}
        yield self._event("response.output_item.added", output_index=self._index, item=item)
        yield self._event("response.content_part.added", **self._at(), part=text_part(""))

    def _close(self) -> Iterator[JsonObject]:
        """Ends the message that is open."""
        if self._open is None:
            return
        message_id, text = self._open
        yield self._event("response.output_text.done", **self._at(), text=text, logprobs=[])
        yield self._event("response.content_part.done", **self._at(), part=text_part(text))
        item = message_item(message_id, text)
        yield self._event("response.output_item.done", output_index=self._index, item=item)
        self._open = None

    def _at(self) -> JsonObject:
        assert self._open is not None
        item_id = f"msg_{self._open[0]}"
        return {"item_id": item_id, "output_index": self._index, "content_index": 0}

    def _whole(self, item: JsonObject) -> Iterator[JsonObject]:
        """Tells an item that is complete from the beginning."""
        self._index += 1
        yield self._event("response.output_item.added", output_index=self._index, item=item)
        yield self._event("response.output_item.done", output_index=self._index, item=item)

    # --- the end --------------------------------------------------------------------------------

    def _end(self, response: JsonObject) -> Iterator[JsonObject]:
        yield from self._close()
        for item in response["output"]:
            if item["type"] == "function_call":
                yield from self._call(item)
            elif item["type"] == "message" and item["id"].startswith("msg_interrupt_"):
                yield from self._question(item)
        yield self._event(_ENDS.get(response["status"], "response.failed"), response=response)

    def _question(self, item: JsonObject) -> Iterator[JsonObject]:
        message_id = item["id"].removeprefix("msg_")
        yield from self._heard(Piece(message_id=message_id, text=item["content"][0]["text"]))
        yield from self._close()

    def _call(self, item: JsonObject) -> Iterator[JsonObject]:
        self._index += 1
        at = {"item_id": item["id"], "output_index": self._index}
        begun = {**item, "arguments": "", "status": "in_progress"}
        arguments = item["arguments"]
        yield self._event("response.output_item.added", output_index=self._index, item=begun)
        yield self._event("response.function_call_arguments.delta", **at, delta=arguments)
        yield self._event(
            "response.function_call_arguments.done", **at, name=item["name"], arguments=arguments
        )
        yield self._event("response.output_item.done", output_index=self._index, item=item)


def _frame(event: JsonObject) -> bytes:
    return event_frame(event["type"], dumps(event))
