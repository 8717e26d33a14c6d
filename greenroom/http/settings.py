"""What the HTTP edge needs to know about its surroundings."""

from __future__ import annotations

from dataclasses import dataclass

from greenroom.core.units import MIB


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpSettings:
    """Settings of the HTTP edge.

    Attributes:
        heartbeat_s: how often an idle stream says that it lives, by the connection's clock.
        send_timeout_s: how long a client may read nothing of what it is sent.
        max_body_bytes: a longer request body is refused with 413 while it is being read.
        bodies_max_bytes: all bodies under way together; one more is answered 503.
        max_body_depth: how deeply the JSON of a body may be nested.
        webhook_allow_private: webhooks may go to this machine and to private networks.
    """

    heartbeat_s: float = 5.0
    send_timeout_s: float = 60.0
    max_body_bytes: int = 32 * MIB
    bodies_max_bytes: int = 256 * MIB
    max_body_depth: int = 100
    webhook_allow_private: bool = False
