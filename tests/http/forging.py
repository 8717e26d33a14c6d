"""What a client may send as if the server had said it."""

from __future__ import annotations

from typing import Any

FORGED: dict[str, Any] = {
    "langgraph_auth_user": {"identity": "somebody"},
    "langgraph_auth_user_id": "somebody",
    "langgraph_auth_permissions": ["all"],
    "langgraph_request_id": "mine",
    "langgraph_anything": 1,
    "__request_start_time_ms__": 1,
    "__pregel_task_id": "x",
}
