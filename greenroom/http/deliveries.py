"""Routes of webhooks: which were sent, and sending one again. The Platform has none of them."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.errors import InvalidRequest, NotFound
from greenroom.core.ports import DELIVERY_STATUSES, DeliveryFilter, JsonObject
from greenroom.http.answering import json, page
from greenroom.http.documents import doc
from greenroom.http.edge import edge_of
from greenroom.http.parameters import number, text, uuid_of
from greenroom.wire import answers

router = APIRouter(tags=["Webhooks"])

MOST = 1000
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
    where = DeliveryFilter(status=status, thread_id=text(request, "thread_id"))
    found = await edge_of(request).records.list_deliveries(where, limit=limit, offset=offset or 0)
    return page(found, found.items, limit=limit, offset=offset or 0)


@router.get(
    "/webhooks/deliveries/{delivery_id}",
    summary="Get a webhook that was sent or will be",
    **doc({200: answers.Delivery}, errors=(404,)),
)
async def delivery(request: Request, delivery_id: str) -> Response:
    return json(await _found(request, uuid_of(delivery_id, "delivery")))


@router.post(
    "/webhooks/deliveries/{delivery_id}/send",
    summary="Send a webhook again, with the same id and contents",
    **doc({200: answers.Delivery}, errors=(404, 409)),
)
async def send(request: Request, delivery_id: str) -> Response:
    """A webhook that still waits is sent at once; its attempts are counted anew."""
    delivery_id = uuid_of(delivery_id, "delivery")
    found = await _found(request, delivery_id)
    await edge_of(request).runtime.send_again(delivery_id, found["thread_id"])
    return json(await _found(request, delivery_id))


async def _found(request: Request, delivery_id: str) -> JsonObject:
    found = await edge_of(request).records.get_delivery(delivery_id)
    if found is None:
        raise NotFound("Delivery not found")
    return found
