"""What a run says while it runs, piece by piece, also across its attempts.

After the death of its process, the next attempt of a run says again what was said since the last
checkpoint. `Repeats` holds that back as long as it is the same. Where a model now says something
else, it begins a new message.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from greenroom.core.runs import Placement
from greenroom.http.edge import Edge
from greenroom.http.openai.states import text_of
from greenroom.http.streaming import close
from greenroom.wire.encoding import is_list, is_object, loads

_AI = ("ai", "AIMessageChunk")
_TOOL = ("tool", "ToolMessageChunk")


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A part of a message of the assistant.

    Attributes:
        message_id: another one for another message.
    """

    message_id: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """The answer of a tool that the graph has called itself."""

    message: dict[str, Any]


@dataclass(eq=False, slots=True)
class _Message:
    """A message of the stream.

    Attributes:
        key: its id in the stream.
        message_id: its id for the client; that of an earlier attempt, if it goes on with that one.
        shown: how much of the text the client has.
        is_listed: it is one of those that the next attempt may say again.
    """

    key: str
    message_id: str
    text: str = ""
    shown: int = 0
    is_listed: bool = False


class Speech:
    """The messages of a run, made of its events."""

    def __init__(self) -> None:
        self._said: list[_Message] = []
        self._current: _Message | None = None
        self._repeats: Repeats | None = None
        self._tools: set[str] = set()

    def hear(self, frames: bytes) -> Iterator[Piece | Answered]:
        """Takes over frames of the run's stream; yields what is new."""
        for frame in frames.split(b"\r\n\r\n"):
            name, _, data = frame.partition(b"\r\ndata: ")
            if name == b"event: metadata":
                self._begin()
            elif name == b"event: messages":
                yield from self._hear(loads(data))

    def end(self) -> Iterator[Piece]:
        """Yields what was held back."""
        if self._current is not None:
            yield from self._finish(self._current)

    def _begin(self) -> None:
        """Notes that an attempt begins."""
        if self._said:
            self._repeats = Repeats([each.text for each in self._said])
        self._current = None

    def _hear(self, event: Any) -> Iterator[Piece | Answered]:
        message: Any = event[0] if is_list(event) and event else None
        if not is_object(message):
            return
        if message.get("type") in _TOOL:
            call_id = str(message.get("tool_call_id"))
            if call_id not in self._tools:
                self._tools.add(call_id)
                yield Answered(message=message)
        elif message.get("type") in _AI and (text := text_of(message)):
            yield from self._say(str(message.get("id")), text, message["type"] == "AIMessageChunk")

    def _say(self, message_id: str, text: str, is_chunk: bool) -> Iterator[Piece]:
        current = self._current
        if current is None or current.key != message_id:
            if current is not None:
                yield from self._finish(current)
            current = self._current = _Message(message_id, message_id)
        elif not is_chunk:
            # A model's whole answer after its chunks.
            text = text[len(current.text) :] if text.startswith(current.text) else ""
        current.text += text
        yield from self._show(current)

    def _show(self, current: _Message) -> Iterator[Piece]:
        if self._repeats is not None:
            match self._repeats.match(current.text):
                case None:
                    self._repeats = None  # the model says something else
                case (number, True):
                    # It goes on where the last attempt was cut off.
                    self._repeats = None
                    earlier = self._said.pop(number)
                    current.message_id, current.shown = earlier.message_id, len(earlier.text)
                case _:
                    return
        if not current.is_listed:
            current.is_listed = True
            self._said.append(current)
        if piece := current.text[current.shown :]:
            current.shown = len(current.text)
            yield Piece(message_id=current.message_id, text=piece)

    def _finish(self, current: _Message) -> Iterator[Piece]:
        if self._repeats is None or self._repeats.finish(current.text):
            return
        self._repeats = None
        yield from self._show(current)


class Repeats:
    """Compares the messages of an attempt with those of the attempts before.

    Args:
        said: the earlier texts, oldest first; the last one may be cut off.
    """

    def __init__(self, said: list[str]) -> None:
        self._said = said
        self._from = 0

    def match(self, text: str) -> tuple[int, bool] | None:
        """Returns which earlier text begins like this one, and whether this one goes beyond it;
        None if none does."""
        last = len(self._said) - 1
        for number in range(self._from, last + 1):
            earlier = self._said[number]
            if earlier.startswith(text):
                return number, False
            if number == last and text.startswith(earlier):
                return number, True
        return None

    def finish(self, text: str) -> bool:
        """Notes that a message is complete; returns whether it repeats an earlier one."""
        found = next((i for i in range(self._from, len(self._said)) if self._said[i] == text), None)
        if found is None:
            return False
        self._from = found + 1
        return True


async def spoken(
    edge: Edge, run_id: str, placement: Placement | None, *, resumable: bool = False
) -> AsyncIterator[Piece | Answered]:
    """Yields what a run says, from its beginning to its end.

    Raises:
        GreenroomError: as of `Runtime.events`.
    """
    batches = edge.runtime.events(
        run_id, placement=placement, after=0, modes=None, with_ids=False, resumable=resumable
    )
    speech = Speech()
    rest = b""
    try:
        async for batch in batches:
            *frames, rest = (rest + batch.body).split(b"\r\n\r\n")
            for frame in frames:
                for piece in speech.hear(frame):
                    yield piece
        for piece in speech.end():
            yield piece
    finally:
        await close(batches)
