"""The amounts of work, and the figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Figures = dict[str, float]

TOKENS = "messages-tuple"
VARIANTS = ("none", "async_sleep", "async_cpu", "sync_sleep", "sync_cpu")


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The amounts of one round."""

    ttft_runs: int = 30
    rps_s: float = 8.0
    sleepers: tuple[int, ...] = (200, 500)
    variants: tuple[str, ...] = VARIANTS
    paced_tokens: int = 250
    tokens: int = 20_000
    idle_streams: int = 1000
    idle_s: float = 20.0
    blob_mib: tuple[int, ...] = (1, 10)
    blob_runs: int = 5
    burst_events: int = 5000
    joins: int = 7
    stored_threads: int = 100_000
    stored_runs: int = 1_000_000
    stored_requests: int = 200
    items: int = 100_000


QUICK = Scale(
    ttft_runs=10,
    rps_s=2.0,
    sleepers=(200,),
    variants=("none", "async_sleep", "sync_cpu"),
    paced_tokens=140,
    tokens=5_000,
    idle_streams=100,
    idle_s=5.0,
    blob_runs=2,
    joins=3,
    stored_threads=2_000,
    stored_runs=20_000,
    stored_requests=30,
    items=5_000,
)


def said(tokens: int, delay_s: float = 0.0) -> dict[str, Any]:
    """Returns the input of a run that streams a number of tokens."""
    messages = [{"role": "user", "content": "hi"}]
    return {"messages": messages, "n_tokens": tokens, "delay": delay_s}
