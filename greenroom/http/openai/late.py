"""Answers that are sent when their run has ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Message

from greenroom.http.edge import Edge
from greenroom.http.sending import put_body
from greenroom.http.streaming import Leave, OpenAnswer


def late_answer(
    edge: Edge, produce: Callable[[], Awaitable[Response]], leave: Leave | None
) -> Response:
    """Answers with what is awaited, by the settings of the server.

    Args:
        leave: called if the client disconnects.
    """
    return LateAnswer(
        produce,
        edge.connections,
        headers={},
        idle=b"",
        idle_s=edge.settings.heartbeat_s,
        send_timeout_s=edge.settings.send_timeout_s,
        on_leave=leave,
    )


class LateAnswer(OpenAnswer):
    """An answer whose status is known only at its end, so nothing is sent before.

    Clients of OpenAI tell by the status that a request has failed.
    """

    def __init__(self, produce: Callable[[], Awaitable[Response]], *args: Any, **given: Any):
        super().__init__(*args, **given)
        self._produce = produce

    async def _start(self) -> None:
        """Waits with the headers."""

    async def _write(self, body: bytes, *, more: bool) -> None:
        if body:
            await super()._write(body, more=more)

    async def _body(self) -> None:
        answer = await self._race(self._produce())
        start: Message = {
            "type": "http.response.start",
            "status": answer.status_code,
            "headers": answer.raw_headers,
        }
        await self._send(start)
        timeout_s = self._send_timeout_s
        await self._sent(put_body(self._send, bytes(answer.body), more=False, timeout_s=timeout_s))
