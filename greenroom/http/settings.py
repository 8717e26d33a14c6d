"""Settings of the HTTP edge."""

from __future__ import annotations

from dataclasses import dataclass, field

from greenroom.core.limits import Limits
from greenroom.core.units import MIB


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpSettings:
    """Settings of the HTTP edge.

    Attributes:
        heartbeat_s: seconds between the heartbeats of a stream, by the connection's clock.
        send_timeout_s: the longest time in seconds that a client may read nothing.
        max_body_bytes: the size above which a request body is refused with 413.
        bodies_max_bytes: the bound for all bodies under way; a body beyond it is answered 503.
        max_body_depth: the deepest nesting of a body's JSON.
        webhook_allow_private: allow webhooks to this machine and to private networks.
        hosts: of a server that listens on loopback only, the further names under which it is
            asked; None elsewhere, where every ``Host`` is answered.
        silence_s: the longest time in seconds between two pieces of a request's body.
        openai: serve the OpenAI-compatible routes.
        console: serve the console, the page for browsers.
        thread_ttl: threads have a time to live unless they have their own; ``/info`` tells it.
        limits: the limits of each caller.
        event_log_ttl_s: how long events stay in a thread's log after their run; ``/info`` tells it.
        event_log_max_bytes: how many bytes of them; ``/info`` tells it.
    """

    heartbeat_s: float = 5.0
    send_timeout_s: float = 60.0
    max_body_bytes: int = 32 * MIB
    bodies_max_bytes: int = 256 * MIB
    max_body_depth: int = 100
    webhook_allow_private: bool = False
    hosts: frozenset[str] | None = None
    silence_s: float = 10.0
    openai: bool = False
    console: bool = True
    thread_ttl: bool = False
    limits: Limits = field(default_factory=Limits)
    event_log_ttl_s: float = 3600.0
    event_log_max_bytes: int = 8 * MIB
