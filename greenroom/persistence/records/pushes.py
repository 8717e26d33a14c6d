"""Configurations of the push notifications of A2A tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from greenroom.core.ports import JsonObject
from greenroom.persistence.pushes import PUT
from greenroom.persistence.records.queries import Queries


class PushRecords(Queries):
    """The queries of configurations, and their writes."""

    async def put_push(
        self,
        task_id: str,
        thread_id: str,
        config_id: str,
        content: Mapping[str, Any],
        *,
        tells: bool,
    ) -> bool:
        given: dict[str, Any] = {"task": task_id, "thread": thread_id, "config": config_id}
        given |= {"content": orjson.dumps(dict(content)).decode(), "tells": tells}
        return bool(await self.rows(PUT, given))

    async def list_pushes(self, task_id: str) -> list[JsonObject]:
        rows = await self.rows(
            "SELECT config_id, content FROM greenroom.a2a_pushes"
            " WHERE task_id = %s ORDER BY created_at, config_id",
            [task_id],
        )
        return [{**row["content"], "id": row["config_id"]} for row in rows]

    async def delete_push(self, task_id: str, config_id: str) -> None:
        await self.rows(
            "DELETE FROM greenroom.a2a_pushes WHERE task_id = %s AND config_id = %s RETURNING 1",
            [task_id, config_id],
        )
