"""The HTTP edge: one set of routes, mounted twice, over the ports `Runtime` and `Records`.

The edge holds no state, runs no graph and depends on neither Ray nor PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from greenroom import tracing
from greenroom.core.access import Authenticator
from greenroom.core.ports import Records, Runtime
from greenroom.core.store import StoreSpec
from greenroom.http import (
    all_runs,
    answering,
    assistants,
    crons,
    documents,
    errors,
    feedback,
    runs,
    spans,
    stateless,
    states,
    system,
    threads,
)
from greenroom.http import (
    store as store_routes,
)
from greenroom.http.a2a import routes as a2a
from greenroom.http.bodies import CountedBodies
from greenroom.http.edge import Edge
from greenroom.http.gates import Authenticated
from greenroom.http.limits import LimitedCallers
from greenroom.http.mcp import routes as mcp
from greenroom.http.openai import routes as openai
from greenroom.http.openai.errors import OpenAiErrors
from greenroom.http.settings import HttpSettings
from greenroom.http.usage import CallerUsage
from greenroom.sealing import UNSEALED, Sealing
from greenroom.wire.dialects import DIALECTS

_EXPOSED = (
    *("x-pagination-total", "x-pagination-next", "content-location", "location"),
    *("mcp-session-id", "ratelimit", "ratelimit-policy", "retry-after"),
)


def create_app(
    *,
    runtime: Runtime,
    records: Records,
    graphs: Sequence[str],
    default_graph: str | None = None,
    shipped_graphs: bool = False,
    broken_graphs: Mapping[str, str] | None = None,
    store: StoreSpec | None = None,
    settings: HttpSettings | None = None,
    authenticator: Authenticator | None = None,
    sealing: Sealing = UNSEALED,
) -> FastAPI:
    """Creates the application; its `Edge` is ``app.state.edge``.

    Args:
        runtime: creates, follows and cancels runs.
        records: the database.
        graphs: the names of the graphs, in the order in which errors list them.
        default_graph: the graph of a run without ``assistant_id`` under ``/api``.
        shipped_graphs: graphs that are not in ``graphs`` may exist; each has an assistant.
        broken_graphs: why graphs of ``graphs`` cannot be loaded, by graph.
        store: the store's index, and the times to live of its items.
        settings: None for the defaults.
        authenticator: lets requests in; None: every request is let in, and reaches everything.
        sealing: seals what clients give runs, before it is stored.
    """
    app = FastAPI(
        title="Greenroom",
        description="LangGraph graphs as Ray actors, behind the LangGraph Platform HTTP/SSE API.",
        version=system.package_version("greenroom"),
        redoc_url=None,
        redirect_slashes=True,
    )
    app.state.edge = Edge(
        runtime=runtime,
        records=records,
        graphs=tuple(graphs),
        default_graph=default_graph,
        shipped_graphs=shipped_graphs,
        broken_graphs=broken_graphs or {},
        store=store or StoreSpec(),
        settings=(settings := settings or HttpSettings()),
        usage=CallerUsage(settings.limits),
        authenticates=authenticator is not None,
        sealing=sealing,
    )
    switched = (openai,) if app.state.edge.settings.openai else ()
    for dialect in DIALECTS:
        # Routes are tried in order, so the most frequent ones come first.
        for part in (
            *(runs, stateless, all_runs, feedback, threads, states),
            *(store_routes, assistants, crons, mcp, a2a, *switched, system),
        ):
            app.include_router(part.router, prefix=dialect.prefix)
    errors.install(app)
    documents.install(app, authenticator.openapi if authenticator is not None else {})
    app.add_middleware(answering.Heads)
    if settings.limits.counts_requests or settings.limits.counts_runs:
        app.add_middleware(LimitedCallers, edge=lambda: app.state.edge)
    if authenticator is not None:
        # Around the limits, which count by user, and inside what counts bodies.
        app.add_middleware(Authenticated, authenticator=authenticator)
    app.add_middleware(CountedBodies, max_bytes=settings.bodies_max_bytes)
    # The middleware added last is outermost, so an answer of `LastResort` has CORS headers too.
    app.add_middleware(errors.LastResort)
    if settings.openai:
        app.add_middleware(OpenAiErrors)
    if tracing.is_on():
        app.add_middleware(spans.RequestSpans)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["*"],
        allow_headers=["*"],
        allow_private_network=True,
        expose_headers=_EXPOSED,
    )
    return app


def drain(app: FastAPI) -> None:
    """Breaks off all open answers, so that their clients reconnect to another server."""
    app.state.edge.connections.drain()
