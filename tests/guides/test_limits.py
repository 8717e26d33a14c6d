"""docs/limits.md says what is not there: it is asked for, and is not there."""

from __future__ import annotations

import re
from uuid import uuid4

import httpx
import pytest

from tests.guides.pages import ROOT
from tests.serving import Served

PAGE = (ROOT / "docs" / "limits.md").read_text()
ROUTES = re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (/\S+)`", PAGE)
EXISTING = {("GET", "/docs")}


@pytest.mark.parametrize("route", sorted(set(ROUTES) - EXISTING), ids=" ".join)
def test_a_route_that_the_page_says_is_missing_is_missing(
    route: tuple[str, str], server: Served
) -> None:
    method, path = route
    answer = httpx.request(method, server.url + re.sub(r"\{\w+\}", str(uuid4()), path), json={})
    # Not the 404 of a route that is there and has found nothing: that names what it has not found.
    assert (answer.status_code, answer.json()) in (
        (404, {"detail": "Not Found"}),
        (405, {"detail": "Method Not Allowed"}),
    )


def test_the_routes_that_the_page_says_are_there_are_there(server: Served) -> None:
    assert set(ROUTES) > EXISTING
    for method, path in EXISTING:
        assert httpx.request(method, server.url + path).status_code == 200
