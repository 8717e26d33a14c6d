"""Assistants, read only: search, and the structure of their graphs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.errors import InvalidRequest, NotFound
from greenroom.core.identity import system_assistant_id
from greenroom.core.ports import (
    AssistantFilter,
    DrawQuestion,
    JsonObject,
    SchemasQuestion,
    SubgraphsQuestion,
)
from greenroom.http.answering import encoded, json, page, selected
from greenroom.http.bodies import parse
from greenroom.http.creation import plain
from greenroom.http.documents import doc
from greenroom.http.edge import Edge, dialect_of, edge_of
from greenroom.http.parameters import flag, is_uuid, text, uuid_of
from greenroom.wire import answers
from greenroom.wire.models import AssistantCount, AssistantSearch

router = APIRouter(tags=["Assistants"])

_MAX_DEPTH = 100


@router.post(
    "/assistants/search",
    summary="Search assistants, the latest created first",
    **doc(
        {200: list[answers.Assistant]},
        body=AssistantSearch,
        headers=("x-pagination-total", "x-pagination-next"),
        errors=(404,),
    ),
)
async def search(request: Request) -> Response:
    body = await parse(request, AssistantSearch)
    limit, offset = body.limit or 10, body.offset or 0
    found = await edge_of(request).records.search_assistants(
        await _filter(edge_of(request), body),
        limit=limit,
        offset=offset,
        sort_by=body.sort_by or "created_at",
        descending=(body.sort_order or "desc").lower() == "desc",
    )
    items = [selected(assistant, body.select) for assistant in found.items]
    return page(found, items, limit=limit, offset=offset)


@router.post(
    "/assistants/count",
    summary="Count assistants",
    **doc({200: int}, body=AssistantCount, errors=(404,)),
)
async def count(request: Request) -> Response:
    where = await _filter(edge_of(request), await parse(request, AssistantCount))
    return json(await edge_of(request).records.count_assistants(where))


@router.get(
    "/assistants/{assistant_id}",
    summary="Get an assistant",
    **doc({200: answers.Assistant}, errors=(404,)),
)
async def get(request: Request, assistant_id: str) -> Response:
    return json(await _assistant(request, assistant_id))


@router.get(
    "/assistants/{assistant_id}/graph",
    summary="Draw the graph of an assistant",
    **doc(
        {200: object},
        query={"xray": {"anyOf": [{"type": "boolean"}, {"type": "integer", "minimum": 1}]}},
        errors=(400, 404),
    ),
)
async def graph(request: Request, assistant_id: str) -> Response:
    edge = edge_of(request)
    xray = _xray(text(request, "xray"))
    assistant = await _assistant(request, assistant_id, by_name=True)
    question = DrawQuestion(graph_id=assistant["graph_id"], xray=xray, config=_config(assistant))
    return encoded(await edge.runtime.ask(question))


@router.get(
    "/assistants/{assistant_id}/schemas",
    summary="Get the schemas of an assistant's graph",
    **doc({200: object}, errors=(400, 404)),
)
async def schemas(request: Request, assistant_id: str) -> Response:
    edge = edge_of(request)
    assistant = await _assistant(request, assistant_id)
    question = SchemasQuestion(graph_id=assistant["graph_id"], config=_config(assistant))
    return encoded(await edge.runtime.ask(question))


@router.get(
    "/assistants/{assistant_id}/subgraphs",
    summary="Get the schemas of the subgraphs of an assistant's graph",
    **doc({200: object}, query={"recurse": {"type": "boolean"}}, errors=(400, 404)),
)
async def subgraphs(request: Request, assistant_id: str) -> Response:
    return await _subgraphs(request, assistant_id, None)


@router.get(
    "/assistants/{assistant_id}/subgraphs/{namespace}",
    summary="Get the schemas of one subgraph",
    **doc({200: object}, query={"recurse": {"type": "boolean"}}, errors=(400, 404)),
)
async def subgraph(request: Request, assistant_id: str, namespace: str) -> Response:
    return await _subgraphs(request, assistant_id, namespace)


async def _subgraphs(request: Request, assistant_id: str, namespace: str | None) -> Response:
    edge = edge_of(request)
    assistant = await _assistant(request, assistant_id)
    question = SubgraphsQuestion(
        graph_id=assistant["graph_id"],
        namespace=namespace,
        recurse=flag(request, "recurse"),
        config=_config(assistant),
    )
    return encoded(await edge.runtime.ask(question))


async def _assistant(request: Request, assistant_id: str, *, by_name: bool = False) -> JsonObject:
    """Returns the assistant's record that a path names.

    Args:
        by_name: accept a graph's name on both mounts.

    Raises:
        InvalidRequest: the id is not a UUID, and the mount accepts no names.
        NotFound: the assistant does not exist.
    """
    edge = edge_of(request)
    by_name = by_name or dialect_of(request).assistants_by_name
    if by_name and not is_uuid(assistant_id) and await edge.serves(assistant_id):
        assistant_id = system_assistant_id(assistant_id)
    assistant = await edge.records.get_assistant(uuid_of(assistant_id, "assistant"))
    if assistant is None:
        raise NotFound("Not Found")
    return assistant


def _config(assistant: JsonObject) -> dict[str, Any]:
    return plain(assistant.get("config"))


def _xray(value: str | None) -> bool | int:
    lowered = (value or "false").lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    if lowered.isascii() and lowered.isdigit() and 0 <= int(lowered[:9]) <= _MAX_DEPTH:
        return int(lowered[:9])
    raise InvalidRequest(f"xray must be true, false or a depth up to {_MAX_DEPTH}.")


async def _filter(edge: Edge, body: AssistantCount) -> AssistantFilter:
    if body.graph_id is not None and not await edge.serves(body.graph_id):
        # As in LangGraph's server: a misspelled name is an error.
        raise NotFound(
            f"Graph '{body.graph_id[:255]}' not found. Expected one of: {sorted(edge.graphs)}"
        )
    return AssistantFilter(metadata=body.metadata, graph_id=body.graph_id, name=body.name)
