"""The model of JSON-RPC messages, for the description of the API."""

from __future__ import annotations

from typing import Literal

from greenroom.wire.models import Body, Object


class RpcMessage(Body):
    """A JSON-RPC message; without an ``id`` it is a notification, which gets no answer."""

    jsonrpc: Literal["2.0"]
    id: str | int | None = None
    method: str
    params: Object | None = None


RPC_BODIES: tuple[type[Body], ...] = (RpcMessage,)
