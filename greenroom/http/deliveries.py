"""Routes of webhooks: which were sent, and sending one again. The Platform has none of them."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.access import Value
from greenroom.core.errors import InvalidRequest, NotFound
from greenroom.core.ports import JsonObject
from greenroom.core.scopes import SERVER
from greenroom.core.searches import (
    DELIVERY_STATUSES,
    DeliveryFilter,
)
from greenroom.http.answering import json, page
from greenroom.http.documents import doc
from greenroom.http.edge import Edge, edge_of
from greenroom.http.gates import id_value, metadata_of
from greenroom.http.parameters import number, text, uuid_of
from greenroom.wire import answers

router = APIRouter(tags=["Webhooks"])

MOST = 1000
_MISSING = "Delivery not found"
_LIST = {
    "status": {"type": "string", "enum": list(DELIVERY_STATUSES)},
    "thread_id": {"type": "string"},
    "limit": {"type": "integer", "minimum": 1, "maximum": MOST, "default": 10},
    "offset": {"type": "integer", "minimum": 0, "default": 0},
}


@router.get(
    "/webhooks/deliveries",
    summary="List the webhooks that were sent or will be, of the newest run first",
    **doc(
        {200: list[answers.Delivery]},
        query=_LIST,
        headers=("x-pagination-total", "x-pagination-next"),
        errors=(400,),
    ),
)
async def deliveries(request: Request) -> Response:
    """``GREENROOM_WEBHOOK_RETENTION_S`` says how long a finished one is kept."""
    status = text(request, "status")
    if status is not None and status not in DELIVERY_STATUSES:
        raise InvalidRequest(
            f"status must be one of {', '.join(DELIVERY_STATUSES)}, not {status[:80]!r}."
        )
    limit, offset = number(request, "limit", 10), number(request, "offset", 0)
    if not limit or limit > MOST:
        raise InvalidRequest(f"limit must be between 1 and {MOST}, not {limit}.")
    edge, thread_id, offset = edge_of(request), text(request, "thread_id"), offset or 0
    value: Value = {"metadata": {}, "values": {}, "status": None, "limit": limit, "offset": offset}
    scope = await edge.gate.allow("threads", "search", value)
    where = DeliveryFilter(status=status, thread_id=thread_id, metadata=metadata_of(value) or None)
    found = await edge.records.list_deliveries(where, limit=limit, offset=offset, scope=scope)
    return page(found, found.items, limit=limit, offset=offset)


@router.get(
    "/webhooks/deliveries/{delivery_id}",
    summary="Get a webhook that was sent or will be",
    **doc({200: answers.Delivery}, errors=(404,)),
)
async def delivery(request: Request, delivery_id: str) -> Response:
    return json(await _found(edge_of(request), uuid_of(delivery_id, "delivery"), "read"))


@router.post(
    "/webhooks/deliveries/{delivery_id}/send",
    summary="Send a webhook again, with the same id and contents",
    **doc({200: answers.Delivery}, errors=(404, 409)),
)
async def send(request: Request, delivery_id: str) -> Response:
    """A webhook that still waits is sent at once; its attempts are counted anew."""
    edge, delivery_id = edge_of(request), uuid_of(delivery_id, "delivery")
    found = await _found(edge, delivery_id, "update")
    await edge.runtime.send_again(delivery_id, found["thread_id"])
    return json(await _found(edge, delivery_id, "read"))


async def _found(edge: Edge, delivery_id: str, action: Literal["read", "update"]) -> JsonObject:
    """Returns a delivery of a thread that the caller may read, or change.

    Raises:
        NotFound: there is none.
    """
    found = await edge.records.get_delivery(delivery_id, scope=SERVER)
    # Also for a delivery that does not exist, so that the two answers are one.
    value: Value = {"thread_id": id_value(None if found is None else str(found["thread_id"]))}
    if action == "update":
        value["metadata"] = {}
    scope = await edge.gate.allow("threads", action, value)
    if found is not None and not scope.is_everything:
        found = await edge.records.get_delivery(delivery_id, scope=scope)
    if found is None:
        raise NotFound(_MISSING)
    return found
