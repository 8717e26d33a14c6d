"""Ready-made handlers: each user reaches what they have made, and nothing else.

The owner stands in the metadata of threads, assistants and crons, and a run is reached through its
thread. In the store, the first label of each namespace is the owner's. The assistants of the graphs
themselves belong to nobody: everybody may see and run them, and only an administrator change them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from langgraph_sdk import Auth

ADMIN = "reaches_everything"
"""A key of a user; true for an administrator."""
OWNER = "owner"
_SYSTEM = {"created_by": "system"}
_MAKES = ("create", "create_run")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadySettings:
    """What of the settings ready-made handlers need.

    Attributes:
        data_dir: has the file of the keys.
        api_keys: keys of the environment.
        issuer, audience, jwks_url: of tokens.
        algorithms: how tokens may be signed.
        leeway_s: by how many seconds clocks may differ.
        identity_claim, permissions_claim: the claims of a token that name the user, and what they
            may do.
        admin: the permission of a token by which its user reaches everything.
    """

    data_dir: Path
    api_keys: str | None = None
    issuer: str | None = None
    audience: str | None = None
    jwks_url: str | None = None
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    leeway_s: float = 30.0
    identity_claim: str = "sub"
    permissions_claim: str = "scope"
    admin: str | None = None


class ReadyMade(Auth, ABC):
    """Handlers of our own. They block nobody, so they need no thread of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.authenticate(self.user_of)
        on = cast(Any, self.on)
        on(_own)
        on.assistants(_own_assistants)
        on.store(_own_namespace)

    @abstractmethod
    def open(self, settings: ReadySettings) -> None:
        """Takes the settings.

        Raises:
            ConfigurationError: one is missing or wrong.
        """

    @abstractmethod
    async def user_of(self, request: Any) -> dict[str, Any]:
        """Returns the user of a request.

        Raises:
            Auth.exceptions.HTTPException: it has no valid credentials.
        """


async def _own(ctx: Any, value: dict[str, Any]) -> dict[str, Any] | None:
    """Threads, their runs, and crons."""
    if _is_admin(ctx):
        if ctx.action in _MAKES:
            _stamp(value, ctx, keep=True)
        return None
    _stamp(value, ctx)
    return {OWNER: ctx.user.identity}


async def _own_assistants(ctx: Any, value: dict[str, Any]) -> dict[str, Any] | None:
    if _is_admin(ctx):
        if ctx.action in _MAKES:
            _stamp(value, ctx, keep=True)
        return None
    mine = {OWNER: ctx.user.identity}
    if ctx.action in ("read", "search"):
        return {"$or": [mine, _SYSTEM]}
    _stamp(value, ctx)
    # By this the assistants of graphs are known, which everybody sees.
    value["metadata"].pop("created_by", None)
    return mine


async def _own_namespace(ctx: Any, value: dict[str, Any]) -> None:
    if _is_admin(ctx):
        return
    own, namespace = label_of(ctx.user.identity), tuple(value.get("namespace") or ())
    if namespace[:1] != (own,):
        value["namespace"] = (own, *namespace)


def _is_admin(ctx: Any) -> bool:
    return ADMIN in ctx.user and ctx.user[ADMIN] is True


def label_of(identity: str) -> str:
    """Returns the label of a user's namespaces: the identity without dots, which no label has."""
    return identity.replace("%", "%25").replace(".", "%2E")


def _stamp(value: dict[str, Any], ctx: Any, *, keep: bool = False) -> None:
    metadata = value.get("metadata")
    if metadata is None:
        metadata = value["metadata"] = {}
    if not keep or OWNER not in metadata:
        metadata[OWNER] = ctx.user.identity
