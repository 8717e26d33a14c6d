"""Whether a Greenroom server runs on a Ray cluster, for those who do not want Ray in their process.

``python -m actors.server.finding ADDRESS NAMESPACE`` prints JSON: its ``url`` and ``dsn``, or null.
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
    """What the registry of a namespace says of itself, or None when there is none."""
    ray.init(address=address, namespace=namespace, log_to_driver=False, logging_level=logging.ERROR)
    try:
        registry = Handles(namespace).get(REGISTRY)
    except ActorGone:
        return None
    hello: Any = ray.get(registry.hello.remote(), timeout=HELLO_PATIENCE_S)
    return {"url": hello["url"], "dsn": hello["dsn"]}


if __name__ == "__main__":
    print(json.dumps(find(*sys.argv[1:3])))
