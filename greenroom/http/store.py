"""The store: items that graphs and clients share.

What needs no embedding goes to the database at once. Where ``store.index`` is configured, a query,
and the texts of a new item, are embedded first, in another process (`greenroom.graphs.embedding`).
"""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.errors import BadRequest, InvalidRequest
from greenroom.core.filters import conditions_of
from greenroom.core.store import (
    ItemQuery,
    NamespaceQuery,
    Vectors,
    check_labels,
    check_namespace,
)
from greenroom.http.answering import empty, json
from greenroom.http.bodies import parse, parse_optional, read_body, validated
from greenroom.http.documents import doc
from greenroom.http.edge import Edge, edge_of
from greenroom.wire import answers
from greenroom.wire.encoding import dumps, is_object
from greenroom.wire.store_models import ItemDelete, ItemPut, ItemSearch, NamespaceSearch

router = APIRouter(tags=["Store"])

_LISTED = 10
_LISTED_NAMESPACES = 100


@router.put(
    "/store/items",
    summary="Store an item, or replace it",
    **doc({204: None}, body=ItemPut, errors=(400,)),
)
async def put(request: Request) -> Response:
    edge = edge_of(request)
    given = await read_body(request)
    body = validated(ItemPut, given)
    namespace = check_namespace(body.namespace)
    value = dumps(body.value)
    ttl_minutes = body.ttl
    if ttl_minutes is None and not (is_object(given) and "ttl" in given):
        ttl_minutes = edge.store.default_ttl_minutes
    vectors = await _vectors(edge, body, value)
    await edge.records.put_item(
        namespace, body.key, value, vectors=vectors, ttl_minutes=ttl_minutes
    )
    return empty()


async def _vectors(edge: Edge, body: ItemPut, value: bytes) -> Vectors:
    if edge.store.index is None or body.index is False or body.index == []:
        return []
    return await edge.runtime.embed_item(value, body.index)


@router.get(
    "/store/items",
    summary="Get an item; null if there is none",
    **doc(
        {200: answers.Item | None},
        query={
            "namespace": {"type": "string", "description": "The labels, joined with dots."},
            "key": {"type": "string"},
            "refresh_ttl": {"type": "boolean"},
        },
        errors=(400,),
    ),
)
async def get(request: Request) -> Response:
    edge = edge_of(request)
    query = request.query_params
    namespace = check_labels((query.get("namespace") or "").split("."))
    key = query.get("key")
    if key is None:
        raise BadRequest("Key is required")
    refresh = _refresh(edge, _asked(query.get("refresh_ttl")))
    return json(await edge.records.get_item(namespace, key, refresh=refresh))


@router.delete(
    "/store/items",
    summary="Delete an item; its absence is no error",
    **doc({204: None}, body=ItemDelete),
)
async def delete(request: Request) -> Response:
    body = await parse(request, ItemDelete)
    await edge_of(request).records.delete_item(check_labels(body.namespace or ()), body.key)
    return empty()


@router.post(
    "/store/items/search",
    summary="Search items: the most similar first, or in the order of their creation",
    **doc({200: answers.FoundItems}, body=ItemSearch, body_required=False, errors=(400,)),
)
async def search(request: Request) -> Response:
    edge = edge_of(request)
    body = await parse_optional(request, ItemSearch)
    prefix = check_labels(body.namespace_prefix or ())
    conditions = conditions_of(body.filter)
    vector = None
    if body.query and edge.store.index is not None:
        vector = await edge.runtime.embed_query(body.query)
    found = await edge.records.search_items(
        ItemQuery(
            prefix=prefix,
            conditions=conditions,
            vector=vector,
            limit=body.limit or _LISTED,
            offset=body.offset or 0,
            refresh=_refresh(edge, body.refresh_ttl),
        )
    )
    return json({"items": found})


@router.post(
    "/store/namespaces",
    summary="List the namespaces that have items",
    **doc({200: answers.Namespaces}, body=NamespaceSearch, body_required=False),
)
async def namespaces(request: Request) -> Response:
    body = await parse_optional(request, NamespaceSearch)
    found = await edge_of(request).records.list_namespaces(
        NamespaceQuery(
            prefix=check_labels(body.prefix or ()),
            suffix=check_labels(body.suffix or ()),
            max_depth=body.max_depth,
            limit=_LISTED_NAMESPACES if body.limit is None else body.limit,
            offset=body.offset or 0,
        )
    )
    return json({"namespaces": found})


def _refresh(edge: Edge, asked: bool | None) -> bool:
    return edge.store.refresh_on_read if asked is None else asked


def _asked(value: str | None) -> bool | None:
    if not value:
        return None
    if value.lower() not in ("true", "false"):
        raise InvalidRequest(f"refresh_ttl must be true or false, not {value[:80]!r}.")
    return value.lower() == "true"
