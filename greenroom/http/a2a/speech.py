"""What a run says while it works: the text of the message that it is streaming."""

from __future__ import annotations

from typing import Any

from greenroom.http.a2a import parts
from greenroom.wire.encoding import is_list, is_object, loads


class Speech:
    """The text of the message that a run is streaming."""

    def __init__(self) -> None:
        self.text = ""
        self._message_id: Any = None

    def hears(self, frames: bytes) -> bool:
        """Takes over frames of a run's stream; returns whether the text changed."""
        before = self.text
        for frame in frames.split(b"\r\n\r\n"):
            name, _, data = frame.partition(b"\r\ndata: ")
            if name == b"event: metadata":
                # The next attempt of a run says again what the last one had said.
                self.text, self._message_id = "", None
            elif name == b"event: messages":
                self._hears(loads(data))
        return bool(self.text) and self.text != before

    def _hears(self, event: Any) -> None:
        message: Any = event[0] if is_list(event) and event else None
        if not is_object(message) or message.get("type") not in ("ai", "AIMessageChunk"):
            return
        text = parts.text_of(message)
        if message["type"] == "AIMessageChunk" and message.get("id") == self._message_id:
            self.text += text
        elif text or message["type"] == "AIMessageChunk":
            self.text, self._message_id = text, message.get("id")
