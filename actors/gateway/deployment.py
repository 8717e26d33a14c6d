"""The gateway as a Ray Serve deployment: it holds no state and imports no graph."""

from __future__ import annotations

import math
from typing import Any

from ray import serve
from ray.serve import Application

from actors.common.placement import HEAD, HEAD_SHARE
from actors.common.setup import RegistrySetup, configuration_of
from actors.inspector.asking import ARRIVAL_WAIT_S
from greenroom.environment import REQUESTS_AT_ONCE
from greenroom.settings import Settings

STARTS = 20
"""How often a gateway is started until its failure is the server's: Serve's own number."""
STARTS_WITH_CUSTOM = 3
"""The same with a custom application, whose failure seldom passes."""
STREAMS_REPLACED_S = 8.0
"""How long a gateway that is replaced goes on with its streams, and with clients that wait for
runs. Then it breaks them off, and their clients come back to another one."""
REPLACED_MARGIN_S = 10.0
"""How much longer than its requests wait for anything a gateway that is replaced may live. Serve
answers 500 to those that it cuts."""
RESERVED_CPUS = 0.1
"""Small enough for any node; above 0, so that the autoscaler does not remove the node as idle."""


class Gateway:
    """The class of Serve's replicas, which the process that starts the server imports too.

    Args:
        settings: the server's settings.
        setup: the set-up of the first registry, in case none exists.
    """

    async def __init__(self, settings: Settings, setup: RegistrySetup) -> None:
        # Imported late: only a gateway's own process needs the routes.
        from actors.gateway.replica import Replica

        self._replica = await Replica.start(settings, setup, STREAMS_REPLACED_S)

    def __serve_build_asgi_app__(self) -> Any:  # the name that Ray Serve looks for
        return self._replica.app

    async def __del__(self) -> None:
        # Serve calls this when no request is left.
        await self._replica.stop()


def application(settings: Settings, setup: RegistrySetup, *, nodes: int = 1) -> Application:
    """Returns the Serve application, for `serve.run` and `serve_app.py`.

    Args:
        settings: the server's settings.
        setup: the set-up of the first registry, in case none exists.
        nodes: the number of nodes; above 1 it limits the gateways of each node to an even share.
            Without the limit the gateways of a lost node would restart, and stay, on the others.
    """
    replicas = settings.gateway_replicas
    custom = configuration_of(setup).http.app is not None
    replaced_s = ARRIVAL_WAIT_S + settings.inspect_s + REPLACED_MARGIN_S
    # An embedded database answers its own node only.
    beside = {HEAD: HEAD_SHARE} if setup.embedded is not None else {}
    deployment = serve.deployment(
        name="gateway",
        num_replicas=replicas,
        max_constructor_retry_count=STARTS_WITH_CUSTOM if custom else STARTS,
        max_ongoing_requests=REQUESTS_AT_ONCE,
        graceful_shutdown_timeout_s=replaced_s,
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=5.0,
        logging_config={"enable_access_log": False},
        ray_actor_options={"num_cpus": RESERVED_CPUS, "resources": beside},
    )
    gateway = deployment(serve.ingress()(Gateway))
    if nodes > 1:
        gateway = gateway.options(max_replicas_per_node=math.ceil(replicas / nodes))
    return gateway.bind(settings, setup)
