"""Models as assistants: those whose graph takes messages and shows them.

A model's id is that of its assistant, the assistant's name if one assistant has it, or the graph's
name, which means the assistant that each graph has by itself.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from greenroom.core.errors import BadRequest, InvalidRequest, NotFound
from greenroom.core.identity import system_assistant_id
from greenroom.core.ports import (
    JsonObject,
)
from greenroom.core.searches import (
    AssistantFilter,
)
from greenroom.http.creation import assistant_of
from greenroom.http.edge import Edge
from greenroom.http.openai.errors import UnknownModel
from greenroom.http.parameters import is_uuid
from greenroom.http.schemas import all_assistants, schemas_of
from greenroom.wire.dialects import Dialect
from greenroom.wire.encoding import is_object

_SHOWN = 5
MESSAGES = "messages"


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """An assistant that a request names.

    Attributes:
        name: as the request has it.
        context: the names in the schema of its graph's context.
    """

    name: str
    assistant: JsonObject
    context: frozenset[str]

    @property
    def assistant_id(self) -> str:
        return str(self.assistant["assistant_id"])


async def model_of(edge: Edge, dialect: Dialect, name: str) -> Model:
    """Returns the model of a request.

    Raises:
        UnknownModel: no assistant and no graph has the name.
        BadRequest: several assistants have it, or the graph has no messages.
    """
    assistant = await _assistant(edge, dialect, name)
    (schemas,) = await schemas_of(edge, [assistant])
    if (missing := _without_messages(schemas)) is not None:
        raise BadRequest(
            f"The model '{name[:255]}' cannot be asked here: the {missing} of its graph"
            f" '{assistant['graph_id']}' has no 'messages'. Run it at POST /runs/wait."
        )
    return Model(name=name, assistant=assistant, context=_names(schemas.get("context_schema")))


async def models(edge: Edge) -> list[JsonObject]:
    """Returns all models as the API lists them, the newest first."""
    assistants = [one async for one in all_assistants(edge)]
    schemas = await schemas_of(edge, assistants)
    names = Counter(str(one["name"]) for one in assistants)
    return [
        _shown(one, _id(edge, one, names))
        for one, found in zip(assistants, schemas, strict=True)
        if _without_messages(found) is None
    ]


async def model_object(edge: Edge, dialect: Dialect, name: str) -> JsonObject:
    """Returns a model as the API shows it; raises as `model_of`, but for the messages."""
    try:
        model = await model_of(edge, dialect, name)
    except BadRequest as error:
        raise UnknownModel(error.message) from None
    return _shown(model.assistant, name)


async def _assistant(edge: Edge, dialect: Dialect, name: str) -> JsonObject:
    if is_uuid(name) or await edge.serves(name):
        try:
            return await assistant_of(edge, dialect, name)
        except (NotFound, InvalidRequest):
            raise _unknown(name) from None
    called = [
        one async for one in all_assistants(edge, AssistantFilter(name=name)) if one["name"] == name
    ]
    if not called:
        raise _unknown(name)
    if len(called) > 1:
        ids = ", ".join(str(one["assistant_id"]) for one in called[:_SHOWN])
        raise BadRequest(
            f"{len(called)} assistants are called '{name[:255]}'. Name one of them by its id:"
            f" {ids}."
        )
    return called[0]


def _unknown(name: str) -> UnknownModel:
    return UnknownModel(
        f"The model '{name[:255]}' does not exist: it must be an assistant's id or name, or a"
        " graph's name. GET /v1/models lists them."
    )


def _without_messages(schemas: JsonObject) -> str | None:
    """Returns which schema of a graph lacks ``messages``; None if both have it."""
    for side in ("input", "output"):
        if MESSAGES not in _names(schemas.get(f"{side}_schema")):
            return side
    return None


def _names(schema: Any) -> frozenset[str]:
    properties: Any = schema.get("properties") if is_object(schema) else None
    return frozenset(properties) if is_object(properties) else frozenset()


def _id(edge: Edge, assistant: JsonObject, names: Counter[str]) -> str:
    assistant_id, name = str(assistant["assistant_id"]), str(assistant["name"])
    graph_id = str(assistant["graph_id"])
    if assistant_id == system_assistant_id(graph_id):
        return graph_id
    is_free = names[name] == 1 and name not in edge.graphs and not is_uuid(name)
    return name if is_free else assistant_id


def _shown(assistant: JsonObject, model_id: str) -> JsonObject:
    return {
        "id": model_id,
        "object": "model",
        "created": seconds_of(assistant["created_at"]),
        "owned_by": "greenroom",
        "assistant_id": str(assistant["assistant_id"]),
        "name": assistant["name"],
        "description": assistant.get("description"),
    }


def seconds_of(timestamp: Any) -> int:
    """Returns an ISO 8601 timestamp in Unix seconds."""
    return int(datetime.fromisoformat(str(timestamp)).timestamp())
