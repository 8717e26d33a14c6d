"""The A2A card of an assistant."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from greenroom.core.ports import JsonObject, SchemasQuestion
from greenroom.http.creation import assistant_of, plain
from greenroom.http.edge import Edge, base_url, dialect_of, edge_of
from greenroom.http.system import package_version
from greenroom.wire.encoding import is_object, loads

HISTORY_SCOPE = "LangGraph-A2A-History-Scope"

_MODES = ["application/json", "text/plain"]


async def card(request: Request, name: str) -> JsonObject:
    """Returns the card of an assistant, which clients of both versions of the protocol read.

    Args:
        name: the assistant's id, or its graph.

    Raises:
        InvalidRequest: no graph has the name.
        NotFound: no assistant has the id.
    """
    edge = edge_of(request)
    assistant = await assistant_of(edge, dialect_of(request), name, fresh=True, strict=True)
    assistant_id = str(assistant["assistant_id"])
    title = str(assistant["name"])
    description = assistant.get("description") or f"{title} assistant"
    schema = await input_schema(edge, assistant)
    properties = sorted(plain(schema.get("properties")))
    url = f"{base_url(request)}/a2a/{assistant_id}"
    return {
        "name": title,
        "description": description,
        "url": url,
        "supportedInterfaces": [
            {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"},
            {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "0.3"},
        ],
        "capabilities": {
            "streaming": True,
            "pushNotifications": True,
            "stateTransitionHistory": False,
            "extensions": [
                {
                    "uri": "https://langchain.com/a2a/extensions/history-scope/v1",
                    "description": "The history of a task: of its whole context, or its own",
                    "required": False,
                    "params": {
                        "header": HISTORY_SCOPE,
                        "values": ["context", "task"],
                        "default": "context",
                        "methods": ["SendMessage", "GetTask"],
                    },
                }
            ],
        },
        "defaultInputModes": _MODES,
        "defaultOutputModes": _MODES,
        "skills": [
            {
                "id": f"{assistant_id}-main",
                "name": f"{title} Capabilities",
                "description": description,
                "tags": ["assistant", "langgraph"],
                "examples": [],
                "inputModes": _MODES,
                "outputModes": _MODES,
                "metadata": {
                    "inputSchema": {
                        "required": schema.get("required") or [],
                        "properties": properties,
                        "supportsA2A": "messages" in properties,
                    }
                },
            }
        ],
        "version": package_version("greenroom"),
    }


async def input_schema(edge: Edge, assistant: JsonObject) -> JsonObject:
    """Returns the JSON schema of the graph's input; empty when its type has none."""
    question = SchemasQuestion(
        graph_id=assistant["graph_id"], config=plain(assistant.get("config"))
    )
    schemas: Any = loads(await edge.runtime.ask(question))
    schema: Any = schemas.get("input_schema") if is_object(schemas) else None
    return schema if is_object(schema) else {}
