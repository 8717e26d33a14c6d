"""The A2A protocol: agent cards, and the JSON-RPC endpoint of each assistant.

The rest of this package uses the types of `a2a-sdk`, whose import takes up to 0.2 s and 6 MiB. It
is loaded in a thread at the first request, so a server that nobody asks for A2A does not pay.

    routes      paths; loads the rest
    cards       the cards of assistants
    dispatch    JSON-RPC: a request, its method, its answer
    methods     the methods of the protocol
    calls       a request to a method, and the forms of its answer
    versions    the JSON of versions 0.3 and 1.0 of the protocol
    tasks       tasks as runs, contexts as threads
    listings    lists of tasks
    pushes      whom to tell about a task
    views       tasks and events as clients see them
    parts       parts of messages from and to LangChain's messages
"""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.errors import BadRequest
from greenroom.http.a2a.cards import card
from greenroom.http.answering import json
from greenroom.http.documents import doc
from greenroom.http.parameters import text

router = APIRouter(tags=["A2A"])

_DISPATCH = "greenroom.http.a2a.dispatch"
_CARD = doc({200: object}, errors=(400, 404))


@router.post(
    "/a2a/{assistant_id}",
    summary="Send a message to an assistant, or ask for a task, by the A2A protocol",
    **doc({200: object}, errors=(413,)),
)
async def call(request: Request, assistant_id: str) -> Response:
    return await (await _loaded()).answered(request, assistant_id)


@router.get(
    "/.well-known/agent-card.json",
    summary="Get the A2A card of an assistant",
    **doc({200: object}, query={"assistant_id": {"type": "string"}}, errors=(400, 404)),
)
async def well_known_card(request: Request) -> Response:
    assistant_id = text(request, "assistant_id")
    if assistant_id is None:
        raise BadRequest("Missing required query parameter: assistant_id")
    return json(await card(request, assistant_id))


@router.get("/a2a/{assistant_id}", summary="Get the A2A card of an assistant", **_CARD)
@router.get("/a2a/{assistant_id}/.well-known/agent-card.json", include_in_schema=False, **_CARD)
@router.get("/a2a/{assistant_id}/.well-known/agent.json", include_in_schema=False, **_CARD)
async def card_of_path(request: Request, assistant_id: str) -> Response:
    return json(await card(request, assistant_id))


async def _loaded() -> Any:
    if _DISPATCH not in sys.modules:
        await asyncio.to_thread(import_module, _DISPATCH)
    return import_module(_DISPATCH)
