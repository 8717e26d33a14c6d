"""Every operation of the Platform is here, but for those that are named."""

from __future__ import annotations

import httpx
import pytest

OPERATIONS = """
POST /assistants
POST /assistants/search
POST /assistants/count
GET /assistants/{assistant_id}
PATCH /assistants/{assistant_id}
DELETE /assistants/{assistant_id}
GET /assistants/{assistant_id}/graph
GET /assistants/{assistant_id}/subgraphs
GET /assistants/{assistant_id}/subgraphs/{namespace}
GET /assistants/{assistant_id}/schemas
POST /assistants/{assistant_id}/versions
POST /assistants/{assistant_id}/latest
POST /threads
POST /threads/search
POST /threads/count
POST /threads/prune
GET /threads/{thread_id}
PATCH /threads/{thread_id}
DELETE /threads/{thread_id}
GET /threads/{thread_id}/state
POST /threads/{thread_id}/state
GET /threads/{thread_id}/state/{checkpoint_id}
POST /threads/{thread_id}/state/checkpoint
GET /threads/{thread_id}/history
POST /threads/{thread_id}/history
POST /threads/{thread_id}/copy
GET /threads/{thread_id}/storage
GET /threads/{thread_id}/stream
POST /threads/{thread_id}/runs
GET /threads/{thread_id}/runs
POST /threads/{thread_id}/runs/stream
POST /threads/{thread_id}/runs/wait
GET /threads/{thread_id}/runs/{run_id}
DELETE /threads/{thread_id}/runs/{run_id}
GET /threads/{thread_id}/runs/{run_id}/join
GET /threads/{thread_id}/runs/{run_id}/stream
POST /threads/{thread_id}/runs/{run_id}/cancel
POST /runs/cancel
POST /runs
POST /runs/stream
POST /runs/wait
POST /runs/batch
POST /runs/crons
POST /threads/{thread_id}/runs/crons
POST /runs/crons/search
POST /runs/crons/count
GET /runs/crons/{cron_id}
PATCH /runs/crons/{cron_id}
DELETE /runs/crons/{cron_id}
PUT /store/items
GET /store/items
DELETE /store/items
POST /store/items/search
POST /store/namespaces
POST /mcp
GET /mcp
DELETE /mcp
POST /a2a/{assistant_id}
GET /.well-known/agent-card.json
POST /threads/{thread_id}/stream/events
POST /threads/{thread_id}/commands
GET /ok
GET /info
GET /metrics
"""
"""The operations of the Platform's own description of its API, with our names of parameters."""

REFUSED = {"GET /mcp", "DELETE /mcp"}
"""405, as the protocol wants it of a server without sessions; the reference describes them."""


@pytest.mark.parametrize("prefix", ["", "/api"])
async def test_the_operations_of_the_platform_are_here(
    client: httpx.AsyncClient, prefix: str
) -> None:
    wanted = set(OPERATIONS.split("\n")) - {""}
    assert len(wanted) == 64
    paths = (await client.get("/openapi.json")).json()["paths"]
    here = {
        f"{method.upper()} {path.removeprefix(prefix)}"
        for path, methods in paths.items()
        if path.startswith(prefix)
        for method in methods
    }
    assert wanted - here == REFUSED
    for operation in REFUSED:
        method, path = operation.split()
        assert (await client.request(method, prefix + path)).status_code == 405
