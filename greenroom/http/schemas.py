"""The JSON schemas of assistants' graphs, for the protocols that are about assistants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from greenroom.core.errors import GreenroomError
from greenroom.core.ports import (
    JsonObject,
    SchemasQuestion,
)
from greenroom.core.searches import (
    AssistantFilter,
)
from greenroom.http.assistants import searched
from greenroom.http.creation import plain
from greenroom.http.edge import Edge
from greenroom.wire.encoding import dumps, is_object, loads

_QUESTIONS = 8
"""The most questions about schemas at once: they share the inspector with other clients."""
_SCANNED = 1000


async def schemas_of(edge: Edge, assistants: Sequence[JsonObject]) -> list[JsonObject]:
    """Returns the schemas of each assistant's graph, as ``GET /assistants/{a}/schemas`` has them;
    an empty object for a graph that cannot be loaded."""
    room = asyncio.Semaphore(_QUESTIONS)

    async def asked(graph_id: str, config: JsonObject) -> JsonObject:
        async with room:
            try:
                answer = await edge.runtime.ask(SchemasQuestion(graph_id=graph_id, config=config))
            except GreenroomError as error:
                if error.status_hint == 503:
                    raise
                return {}  # one graph that cannot be loaded takes no other assistant away
        schemas: Any = loads(answer)
        return schemas if is_object(schemas) else {}

    # Assistants of one graph mostly have one config, too.
    questions = [(str(one["graph_id"]), plain(one.get("config"))) for one in assistants]
    keys = [(graph_id, dumps(config)) for graph_id, config in questions]
    once = dict(zip(keys, questions, strict=True))
    answers = await asyncio.gather(*(asked(*question) for question in once.values()))
    by_key = dict(zip(once, answers, strict=True))
    return [by_key[key] for key in keys]


async def all_assistants(
    edge: Edge, where: AssistantFilter | None = None
) -> AsyncIterator[JsonObject]:
    """Yields all assistants that a filter selects, the newest first."""
    offset = 0
    while True:
        wanted, scope = await searched(
            edge, where or AssistantFilter(), limit=_SCANNED, offset=offset
        )
        found = await edge.records.search_assistants(
            wanted,
            limit=_SCANNED,
            offset=offset,
            sort_by="created_at",
            descending=True,
            scope=scope,
        )
        for assistant in found.items:
            yield assistant
        if not found.has_more:
            return
        offset += _SCANNED
