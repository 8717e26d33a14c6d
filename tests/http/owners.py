"""The usual single-owner rule: stamps ``owner``, filters by it; the store by its namespace."""

from __future__ import annotations

from typing import Any

from langgraph_sdk import Auth

USERS = {"tok-alice": "alice", "tok-bob": "bob", "tok-root": "root"}

auth = Auth()


@auth.authenticate
def authenticate(authorization: str | None) -> Any:
    token = (authorization or "").split(" ")[-1]
    if token not in USERS:
        raise Auth.exceptions.HTTPException(
            status_code=401, detail="Invalid token", headers={"WWW-Authenticate": "Bearer"}
        )
    return {"identity": USERS[token], "permissions": ["user"], "token": token}


@auth.on
async def owner_only(ctx: Any, value: Any) -> Any:
    if ctx.user.identity == "root":
        return None
    mine = {"owner": ctx.user.identity}
    metadata = value.setdefault("metadata", {})
    if metadata is None:
        metadata = value["metadata"] = {}
    metadata.update(mine)
    return mine


@auth.on.store
async def own_namespace(ctx: Any, value: Any) -> None:
    namespace = tuple(value["namespace"] or ())
    if namespace[:1] != (ctx.user.identity,):
        value["namespace"] = (ctx.user.identity, *namespace)
