"""The HTTP edge: one set of routes, mounted twice, over the ports `Runtime` and `Records`.

The edge holds no state, runs no graph and depends on neither Ray nor PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Scope

from greenroom import tracing
from greenroom.core.access import Authenticator
from greenroom.core.edge_rules import HttpRules
from greenroom.core.ports import Runtime
from greenroom.core.records import Records
from greenroom.core.store import StoreSpec
from greenroom.core.webhook_rules import UrlPolicy
from greenroom.http import (
    all_runs,
    answering,
    assistants,
    attaching,
    browsers,
    console,
    crons,
    deliveries,
    documents,
    errors,
    feedback,
    health,
    inputs,
    passing,
    runs,
    spans,
    stateless,
    states,
    system,
    threads,
    watching,
)
from greenroom.http import (
    store as store_routes,
)
from greenroom.http.a2a import routes as a2a
from greenroom.http.bodies import CountedBodies
from greenroom.http.custom import CustomApp, CustomRoutes
from greenroom.http.edge import Edge
from greenroom.http.event_streaming import routes as event_streaming
from greenroom.http.gates import Authenticated, is_public
from greenroom.http.limits import LimitedCallers
from greenroom.http.mcp import routes as mcp
from greenroom.http.mounting import Mounted
from greenroom.http.openai import routes as openai
from greenroom.http.openai.errors import OpenAiErrors
from greenroom.http.settings import HttpSettings
from greenroom.http.table import RouteTable
from greenroom.http.usage import CallerUsage
from greenroom.sealing import UNSEALED, Sealing
from greenroom.wire.dialects import DIALECTS

PARTS: tuple[tuple[str, Any], ...] = (
    ("runs", runs),
    ("runs", inputs),
    ("runs", attaching),
    ("runs", stateless),
    ("runs", all_runs),
    ("runs", feedback),
    ("threads", threads),
    ("threads", event_streaming),
    ("threads", states),
    ("store", store_routes),
    ("assistants", assistants),
    ("runs", crons),
    ("", deliveries),
    ("mcp", mcp),
    ("a2a", a2a),
    ("openai", openai),
    ("", health),
    ("", watching),
    ("meta", system),
    ("ui", console),
)
"""The routes, and the part that ``http.disable_<part>`` switches off; "" for none."""


def create_app(
    *,
    runtime: Runtime,
    records: Records,
    graphs: Sequence[str],
    default_graph: str | None = None,
    shipped_graphs: bool = False,
    broken_graphs: Mapping[str, str] | None = None,
    store: StoreSpec | None = None,
    rules: HttpRules | None = None,
    webhooks: UrlPolicy | None = None,
    custom: CustomApp | None = None,
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
        rules: ``http`` of the configuration.
        webhooks: the URLs that runs may name as their webhooks.
        custom: the application of ``http.app``, which was started.
        settings: None for the defaults.
        authenticator: lets requests in; None: every request is let in, and reaches everything.
        sealing: seals what clients give runs, before it is stored.
    """
    rules = rules or HttpRules()
    settings = settings or HttpSettings()
    switches = {"openai": settings.openai, "ui": settings.console}
    off = rules.disabled | {name for name, is_on in switches.items() if not is_on}
    has_no_meta = "meta" in rules.disabled
    table = _table(off)
    app = FastAPI(
        routes=[table],
        title="Greenroom",
        description="LangGraph graphs as Ray actors, behind the LangGraph Platform HTTP/SSE API.",
        version=system.package_version("greenroom"),
        docs_url=None if has_no_meta else "/docs",
        openapi_url=None if has_no_meta else "/openapi.json",
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
        webhooks=webhooks or UrlPolicy(),
        settings=settings,
        usage=CallerUsage(settings.limits),
        authenticates=authenticator is not None,
        sealing=sealing,
    )
    errors.install(app)
    documents.install(
        app, table.routes, custom, authenticator.openapi if authenticator is not None else None
    )
    for layer in reversed(_layers(app, rules, custom, authenticator)):
        app.add_middleware(layer.cls, *layer.args, **layer.kwargs)
    return app


def _table(off: Collection[str]) -> RouteTable:
    """Returns the routes of all parts but those that are off, on all mounts."""
    parts = [part for name, part in PARTS if name not in off]
    return RouteTable({dialect.prefix: parts for dialect in DIALECTS})


def _layers(
    app: FastAPI,
    rules: HttpRules,
    custom: CustomApp | None,
    authenticator: Authenticator | None,
) -> list[Middleware]:
    """Returns the middleware, from the outside in."""
    settings: HttpSettings = app.state.edge.settings
    cors = browsers.cors_arguments(rules.cors, settings.hosts)
    layers = [Middleware(CORSMiddleware, **cors)]
    if rules.mount_prefix:
        layers.insert(0, Middleware(Mounted, prefix=rules.mount_prefix))
    if rules.logging_headers is not None:
        layers.append(Middleware(passing.LoggedRequests, selection=rules.logging_headers))
    if tracing.is_on():
        layers.append(Middleware(spans.RequestSpans))
    if settings.openai:
        layers.append(Middleware(OpenAiErrors))
    # Within CORS, so that a page may read its answers.
    layers.append(Middleware(errors.LastResort))
    if settings.hosts is not None:
        layers.append(Middleware(browsers.Neighbours, hosts=settings.hosts, cors=cors))

    def edge() -> Edge:
        return app.state.edge

    limits: list[Middleware] = []
    if settings.limits.counts_requests or settings.limits.counts_runs:
        limits = [Middleware(LimitedCallers, edge=edge)]
    # Users are only known behind the authentication.
    by_user = authenticator is not None and settings.limits.by in ("auto", "owner")
    if not by_user:
        layers += limits
    within = limits if by_user else []
    return [
        *layers,
        Middleware(CountedBodies, max_bytes=settings.bodies_max_bytes),
        *_in_order(app, rules, custom, authenticator, edge, within),
        *within,
        Middleware(passing.PassedHeaders, selection=rules.configurable_headers),
        Middleware(answering.Heads),
    ]


def _in_order(
    app: FastAPI,
    rules: HttpRules,
    custom: CustomApp | None,
    authenticator: Authenticator | None,
    edge: Callable[[], Edge],
    limits: Sequence[Middleware],
) -> list[Middleware]:
    """Returns the custom application and the authentication in the order of
    ``http.middleware_order``, from the outside in.

    The authentication is always the innermost: whatever a custom middleware makes of a request, no
    route of the server is reached without it.

    Args:
        limits: what counts the requests that end here: those of custom routes, and those that
            nobody let in.
    """

    refusing = partial(_within, limits)

    def authenticated(is_open: Callable[[Scope], bool]) -> list[Middleware]:
        if authenticator is None:
            return []
        return [
            Middleware(
                Authenticated,
                authenticator=authenticator,
                edge=edge,
                is_open=is_open,
                refusing=refusing,
            )
        ]

    layers = authenticated(is_public)
    if custom is None:
        return layers
    guards = [*(authenticated(_never) if rules.custom_route_auth else []), *limits]
    guard = partial(_within, guards) if guards else None
    connections = app.state.edge.connections
    routes = Middleware(CustomRoutes, custom=custom, connections=connections, guard=guard)
    layers = [routes, *layers]
    if rules.middleware_order == "auth_first":
        is_open = is_public if rules.custom_route_auth else custom.is_open
        layers = [*authenticated(is_open), *layers]
    return layers


def _never(scope: Scope) -> bool:
    return False


def _within(layers: Sequence[Middleware], app: ASGIApp) -> ASGIApp:
    """Returns an application within middleware, which is given from the outside in."""
    for layer in reversed(layers):
        app = layer.cls(app, *layer.args, **layer.kwargs)
    return app


def drain(app: FastAPI) -> None:
    """Breaks off all open answers, so that their clients reconnect to another server."""
    app.state.edge.connections.drain()
