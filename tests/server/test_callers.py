"""Whom a real server counts, behind its own HAProxy."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.serving import Served


def left_after(server: Served, address: str, headers: dict[str, str] | None = None) -> int:
    """What a caller at an address has left after one more request."""
    transport = httpx.HTTPTransport(local_address=address)
    with httpx.Client(base_url=server.url, transport=transport) as client:
        answer = client.get("/info", headers=headers)
    found = re.fullmatch(r'"requests";r=([0-9]+);t=[0-9]+', answer.headers["ratelimit"])
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("headers", [None, {"x-forwarded-for": "127.0.0.78"}])
def test_a_caller_is_counted_by_its_own_address_whatever_it_says(
    server: Served, headers: dict[str, str] | None
) -> None:
    other = left_after(server, "127.0.0.78")
    own = left_after(server, "127.0.0.77", headers)
    assert left_after(server, "127.0.0.77", headers) == own - 1
    assert left_after(server, "127.0.0.78") == other - 1
