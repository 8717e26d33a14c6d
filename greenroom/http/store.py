"""The store: items that graphs and clients share.

What needs no embedding goes to the database at once. Where ``store.index`` is configured, a query,
and the texts of a new item, are embedded first, in another process (`greenroom.graphs.embedding`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.access import Value
from greenroom.core.errors import BadRequest, InvalidRequest, Refused
from greenroom.core.filters import Condition, conditions_of
from greenroom.core.scopes import Equals, Every, Scope
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
from greenroom.wire.encoding import dumps, is_object, loads
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
    asked: Value = {
        "namespace": tuple(body.namespace),
        "key": body.key,
        "value": body.value,
        "index": body.index,
        "ttl": body.ttl,
    }
    await _allowed(edge, "put", asked)
    namespace = check_namespace(_labels(asked))
    key, value = _key(asked), dumps(asked["value"])
    ttl_minutes = body.ttl
    if ttl_minutes is None and not (is_object(given) and "ttl" in given):
        ttl_minutes = edge.store.default_ttl_minutes
    vectors = await _vectors(edge, body, value)
    await edge.records.put_item(namespace, key, value, vectors=vectors, ttl_minutes=ttl_minutes)
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
    asked: Value = {"namespace": namespace, "key": key, "refresh_ttl": refresh}
    await _allowed(edge, "get", asked)
    namespace = check_labels(_labels(asked))
    return json(await edge.records.get_item(namespace, _key(asked), refresh=refresh))


@router.delete(
    "/store/items",
    summary="Delete an item; its absence is no error",
    **doc({204: None}, body=ItemDelete),
)
async def delete(request: Request) -> Response:
    body = await parse(request, ItemDelete)
    edge = edge_of(request)
    asked: Value = {"namespace": check_labels(body.namespace or ()), "key": body.key}
    await _allowed(edge, "delete", asked)
    await edge.records.delete_item(check_labels(_labels(asked)), _key(asked))
    return empty()


@router.post(
    "/store/items/search",
    summary="Search items: the most similar first, or in the order of their creation",
    **doc({200: answers.FoundItems}, body=ItemSearch, body_required=False, errors=(400,)),
)
async def search(request: Request) -> Response:
    edge = edge_of(request)
    body = await parse_optional(request, ItemSearch)
    asked: Value = {
        "namespace": check_labels(body.namespace_prefix or ()),
        "filter": dict(body.filter or {}),
        "limit": body.limit or _LISTED,
        "offset": body.offset or 0,
        "query": body.query,
        "refresh_ttl": body.refresh_ttl,
    }
    scope = await edge.gate.allow("store", "search", asked)
    prefix = check_labels(_labels(asked))
    conditions = (*conditions_of(asked.get("filter")), *_of_scope(scope))
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
    edge, body = edge_of(request), await parse_optional(request, NamespaceSearch)
    limit = _LISTED_NAMESPACES if body.limit is None else body.limit
    asked: Value = {
        "namespace": check_labels(body.prefix or ()),
        "suffix": check_labels(body.suffix or ()),
        "max_depth": body.max_depth,
        "limit": limit,
        "offset": body.offset or 0,
    }
    await _allowed(edge, "list_namespaces", asked)
    found = await edge.records.list_namespaces(
        NamespaceQuery(
            prefix=check_labels(_labels(asked)),
            suffix=check_labels(body.suffix or ()),
            max_depth=body.max_depth,
            limit=limit,
            offset=body.offset or 0,
        )
    )
    return json({"namespaces": found})


async def _allowed(edge: Edge, action: str, asked: Value) -> None:
    """Asks whether the caller may do something with an item.

    Raises:
        Refused: also for a filter, since items have no metadata that it could be about.
    """
    scope = await edge.gate.allow("store", action, asked)
    if not scope.is_everything:
        raise Refused(
            f"The handler of 'auth' for store.{action} returned a filter, which only a search of"
            " items has; it must change value['namespace'] instead. Nothing was done.",
            500,
        )


def _of_scope(scope: Scope) -> tuple[Condition, ...]:
    """Returns the conditions on the values of items that a handler's filter means.

    Raises:
        Refused: it means something that a search of items does not have.
    """
    terms = scope.term.parts if isinstance(scope.term, Every) else (scope.term,)
    found: list[Condition] = []
    for term in terms:
        if not isinstance(term, Equals):
            raise Refused(
                "The handler of 'auth' for store.search returned a filter with more than equal"
                " values, which a search of items does not have. Nothing was searched.",
                500,
            )
        found.append(Condition((term.key,), "$eq", loads(term.value)))
    return tuple(found)


def _labels(asked: Value) -> tuple[str, ...]:
    """Returns the namespace that a handler has left in a value."""
    found: Any = asked.get("namespace")
    if not isinstance(found, list | tuple) or not all(
        isinstance(each, str) for each in cast("Sequence[Any]", found)
    ):
        raise Refused("The handler of 'auth' must leave a list of labels as namespace.", 500)
    return tuple(cast("Sequence[str]", found))


def _key(asked: Value) -> str:
    found: Any = asked.get("key")
    if not isinstance(found, str):
        raise Refused("The handler of 'auth' must leave a string as key.", 500)
    return found


def _refresh(edge: Edge, asked: bool | None) -> bool:
    return edge.store.refresh_on_read if asked is None else asked


def _asked(value: str | None) -> bool | None:
    if not value:
        return None
    if value.lower() not in ("true", "false"):
        raise InvalidRequest(f"refresh_ttl must be true or false, not {value[:80]!r}.")
    return value.lower() == "true"
