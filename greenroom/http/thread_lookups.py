"""A thread's record, as the routes find it and show it."""

from __future__ import annotations

from starlette.requests import Request

from greenroom.core.errors import NotFound
from greenroom.core.ports import JsonObject
from greenroom.core.scopes import Scope
from greenroom.http.creation import plain
from greenroom.http.edge import Edge, dialect_of, edge_of
from greenroom.http.gates import reads_thread
from greenroom.http.parameters import texts


def thread_not_found(thread_id: str) -> NotFound:
    return NotFound(f"Thread with ID {thread_id} not found")


def no_graph(thread_id: str) -> str:
    return (
        f"Thread '{thread_id}' has no assigned graph ID. This usually occurs when no runs have "
        "been made on this particular thread. This operation requires a graph ID. Please ensure a "
        "run has been made for the thread or manually update the thread metadata (by setting the "
        "'graph_id' field) before running this operation."
    )


def graph_of(thread: JsonObject) -> str | None:
    """Returns the graph of the thread's runs; None without a run."""
    graph_id = plain(thread.get("metadata")).get("graph_id")
    return graph_id if isinstance(graph_id, str) else None


async def readable_thread(request: Request, thread_id: str) -> JsonObject:
    """Returns a thread's record, without its state, for reading; empty for an unknown thread if the
    mount allows that.

    Raises:
        NotFound: the thread does not exist, and the mount requires it.
    """
    edge = edge_of(request)
    scope = await reads_thread(edge, thread_id)
    thread = await edge.records.get_thread(thread_id, scope=scope, with_state=False)
    if thread is None and not dialect_of(request).unknown_thread_is_empty:
        raise thread_not_found(thread_id)
    return thread or {}


async def existing_thread(
    edge: Edge, thread_id: str, scope: Scope, *, with_state: bool = True
) -> JsonObject:
    """Returns a thread's record (as of `Records.get_thread`). Raises NotFound."""
    thread = await edge.records.get_thread(thread_id, scope=scope, with_state=with_state)
    if thread is None:
        raise thread_not_found(thread_id)
    return thread


def shown(request: Request, thread: JsonObject) -> JsonObject:
    """Returns the record; with ``ttl`` only on request, as LangGraph's server does."""
    if "ttl" not in thread or "ttl" in texts(request, "include"):
        return thread
    return {key: value for key, value in thread.items() if key != "ttl"}
