"""Finds a Greenroom server on a Ray cluster, for callers that must not load Ray themselves.

``python -m actors.server.finding ADDRESS NAMESPACE`` prints the server's ``url`` and ``dsn`` as a
JSON object, or null.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import ray

from actors.calls.answers import ActorGone
from actors.calls.directory import Handles
from actors.calls.names import REGISTRY

HELLO_PATIENCE_S = 60.0


def find(address: str, namespace: str) -> dict[str, Any] | None:
    """Returns the ``url`` and ``dsn`` of the server of a namespace; None if there is no server.

    Args:
        address: the Ray cluster's address.
        namespace: the server's Ray namespace.
    """
    ray.init(address=address, namespace=namespace, log_to_driver=False, logging_level=logging.ERROR)
    try:
        registry = Handles(namespace).get(REGISTRY)
    except ActorGone:
        return None
    asked: Any = [registry.hello.remote(), registry.dsn.remote()]
    hello, dsn = ray.get(asked, timeout=HELLO_PATIENCE_S)
    return {"url": hello["url"], "dsn": dsn}


if __name__ == "__main__":
    print(json.dumps(find(*sys.argv[1:3])))
