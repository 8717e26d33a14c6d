"""Assistants: records, versions, search, and the structure of their graphs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.access import Value
from greenroom.core.assistants import NewAssistant
from greenroom.core.errors import InvalidRequest, NotFound
from greenroom.core.identity import system_assistant_id
from greenroom.core.ports import (
    DrawQuestion,
    JsonObject,
    SchemasQuestion,
    SubgraphsQuestion,
)
from greenroom.core.scopes import Scope
from greenroom.core.searches import (
    AssistantFilter,
)
from greenroom.http.answering import empty, encoded, json, page, selected
from greenroom.http.bodies import parse
from greenroom.http.creation import plain, unknown_graph
from greenroom.http.documents import doc
from greenroom.http.edge import Edge, dialect_of, edge_of
from greenroom.http.gates import metadata_of
from greenroom.http.idempotency import Ids, deleted, once
from greenroom.http.parameters import flag, is_uuid, text, uuid_of
from greenroom.wire import answers, configs
from greenroom.wire.assistant_models import (
    AssistantChange,
    AssistantCount,
    AssistantCreate,
    AssistantLatest,
    AssistantSearch,
    AssistantVersions,
)

router = APIRouter(tags=["Assistants"])

UNTITLED = "Untitled"
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
    edge = edge_of(request)
    where, scope = await searched(edge, await _filter(edge, body), limit=limit, offset=offset)
    found = await edge.records.search_assistants(
        where,
        limit=limit,
        offset=offset,
        sort_by=body.sort_by or "created_at",
        descending=(body.sort_order or "desc").lower() == "desc",
        scope=scope,
    )
    items = [selected(assistant, body.select) for assistant in found.items]
    return page(found, items, limit=limit, offset=offset)


@router.post(
    "/assistants/count",
    summary="Count assistants",
    **doc({200: int}, body=AssistantCount, errors=(404,)),
)
async def count(request: Request) -> Response:
    edge = edge_of(request)
    where = await _filter(edge, await parse(request, AssistantCount))
    where, scope = await searched(edge, where, limit=0, offset=0)
    return json(await edge.records.count_assistants(where, scope=scope))


async def searched(
    edge: Edge, where: AssistantFilter, *, limit: int, offset: int
) -> tuple[AssistantFilter, Scope]:
    """Returns the conditions of a search, as a handler has left them, and its scope."""
    value: Value = {
        "graph_id": where.graph_id,
        "metadata": dict(where.metadata or {}),
        "limit": limit,
        "offset": offset,
    }
    scope = await edge.gate.allow("assistants", "search", value)
    return replace(where, metadata=metadata_of(value) or None), scope


@router.post(
    "/assistants",
    summary="Create an assistant: a graph with a config of its own",
    **doc({200: answers.Assistant}, body=AssistantCreate, once=True, errors=(400, 404, 409)),
)
async def create(request: Request) -> Response:
    body = await parse(request, AssistantCreate)
    return json(await once(request, lambda ids: _create(edge_of(request), body, ids)))


async def _create(edge: Edge, body: AssistantCreate, ids: Ids) -> JsonObject:
    given = body.assistant_id
    assistant_id = uuid_of(given, "assistant") if given is not None else ids.new_id()
    config, context = configs.of_assistant(body.config, body.context)
    value: Value = {
        "assistant_id": UUID(assistant_id),
        "graph_id": body.graph_id,
        "config": config,
        "context": context,
        "metadata": dict(body.metadata or {}),
        "name": body.name or UNTITLED,
    }
    scope = await edge.gate.allow("assistants", "create", value)
    if ids.has_made(assistant_id):
        made = await edge.records.get_assistant(assistant_id, scope=scope)
        if made is None:
            raise deleted("assistant")
        return made
    await _refuse_unknown(edge, body.graph_id)
    new = NewAssistant(
        assistant_id=assistant_id,
        graph_id=body.graph_id,
        name=body.name or UNTITLED,
        description=body.description,
        config=config,
        context=context,
        metadata=metadata_of(value),
    )
    if_exists = body.if_exists or "raise"
    return await edge.records.create_assistant(new, if_exists=if_exists, scope=scope, once=ids.once)


@router.patch(
    "/assistants/{assistant_id}",
    summary="Change an assistant: makes a new version, which runs use from then on",
    **doc({200: answers.Assistant}, body=AssistantChange, errors=(400, 404)),
)
async def patch(request: Request, assistant_id: str) -> Response:
    edge = edge_of(request)
    assistant_id = await _id_of(request, assistant_id)
    body = await parse(request, AssistantChange)
    await _refuse_unknown(edge, body.graph_id)
    value: Value = {
        "assistant_id": UUID(assistant_id),
        "graph_id": body.graph_id,
        "config": dict(body.config or {}),
        "context": dict(body.context or {}),
        "metadata": dict(body.metadata or {}),
        "name": body.name,
    }
    scope = await edge.gate.allow("assistants", "update", value)
    change = replace(
        configs.patch_of(body.config, body.context),
        graph_id=body.graph_id,
        name=body.name,
        description=body.description,
        metadata=metadata_of(value) or None,
    )
    changed = await edge.records.patch_assistant(assistant_id, change, scope=scope)
    return _known(assistant_id, changed)


@router.delete(
    "/assistants/{assistant_id}",
    summary="Delete an assistant with its versions, and stop its runs",
    **doc({204: None}, query={"delete_threads": {"type": "boolean"}}, errors=(404,)),
)
async def delete(request: Request, assistant_id: str) -> Response:
    edge = edge_of(request)
    assistant_id = await _id_of(request, assistant_id)
    scope = await edge.gate.allow("assistants", "delete", {"assistant_id": UUID(assistant_id)})
    threads = None
    if flag(request, "delete_threads"):
        threads = await edge.gate.allow("threads", "delete", {"thread_id": None, "run_id": None})
    await edge.runtime.delete_assistant(assistant_id, threads=threads, scope=scope)
    return empty()


@router.post(
    "/assistants/{assistant_id}/versions",
    summary="List the versions of an assistant, newest first",
    **doc({200: list[answers.AssistantVersion]}, body=AssistantVersions, errors=(404,)),
)
async def versions(request: Request, assistant_id: str) -> Response:
    assistant_id = await _id_of(request, assistant_id)
    body = await parse(request, AssistantVersions)
    edge = edge_of(request)
    scope = await edge.gate.allow("assistants", "read", {"assistant_id": UUID(assistant_id)})
    found = await edge.records.assistant_versions(
        assistant_id,
        metadata=body.metadata,
        limit=body.limit or 10,
        offset=body.offset or 0,
        scope=scope,
    )
    return _known(assistant_id, found)


@router.post(
    "/assistants/{assistant_id}/latest",
    summary="Make an assistant show one of its versions, whole",
    **doc({200: answers.Assistant}, body=AssistantLatest, errors=(404,)),
)
async def latest(request: Request, assistant_id: str) -> Response:
    assistant_id = await _id_of(request, assistant_id)
    body = await parse(request, AssistantLatest)
    edge = edge_of(request)
    value: Value = {"assistant_id": UUID(assistant_id), "version": body.version, "metadata": {}}
    scope = await edge.gate.allow("assistants", "update", value)
    shown = await edge.records.show_version(assistant_id, body.version, scope=scope)
    return _known(assistant_id, shown)


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
        InvalidRequest: the id is neither a UUID nor, where names are accepted, a graph's name.
        NotFound: the assistant does not exist.
    """
    assistant_id = await _id_of(request, assistant_id, by_name=by_name)
    edge = edge_of(request)
    scope = await edge.gate.allow("assistants", "read", {"assistant_id": UUID(assistant_id)})
    assistant = await edge.records.get_assistant(assistant_id, scope=scope)
    if assistant is None:
        raise NotFound("Not Found")
    return assistant


async def _id_of(request: Request, assistant_id: str, *, by_name: bool = False) -> str:
    """Returns the id of the assistant that a path names, which may not exist."""
    edge, takes_names = edge_of(request), dialect_of(request).assistants_by_name
    if (by_name or takes_names) and not is_uuid(assistant_id):
        if await edge.serves(assistant_id):
            return system_assistant_id(assistant_id)
        if takes_names:
            raise unknown_graph(edge, assistant_id)
    return uuid_of(assistant_id, "assistant")


def _known(assistant_id: str, found: Any) -> Response:
    if found is None:
        raise NotFound(f"Assistant {assistant_id} not found")
    return json(found)


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
    await _refuse_unknown(edge, body.graph_id)
    return AssistantFilter(metadata=body.metadata, graph_id=body.graph_id, name=body.name)


async def _refuse_unknown(edge: Edge, graph_id: str | None) -> None:
    # As in LangGraph's server: a misspelled name is an error.
    if graph_id is not None and not await edge.serves(graph_id):
        raise NotFound(
            f"Graph '{graph_id[:255]}' not found. Expected one of: {sorted(edge.graphs)}"
        )
