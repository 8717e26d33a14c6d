"""The URLs that a run may name as its webhook; the deliveries that are listed and sent again."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from greenroom.core.errors import Conflict, InvalidRequest
from greenroom.core.webhook_rules import UrlPolicy
from greenroom.http.webhooks import checked
from tests.http.edge_doubles import NOW, RUN, THREAD, UNKNOWN

MOUNTS = pytest.mark.parametrize("mount", ["", "/api"])
STRICT = UrlPolicy(
    require_https=True,
    allowed_domains=("hooks.example.com", "*.corp.example", "[2600::1]"),
    allowed_ports=(443, 8443),
    max_length=60,
)


def a_delivery(run_id: str = RUN, **more: Any) -> dict[str, Any]:
    about = {"delivery_id": run_id, "run_id": run_id, "thread_id": THREAD, "status": "failed"}
    return {**about, "created_at": NOW, "answer": "500", **more}


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/a",
        "https://x.corp.example:8443",
        "https://[2600::1]/",
        "https://HOOKS.example.com.",
        "https://a.b.corp.example/",
    ],
)
def test_a_url_that_the_policy_allows_is_taken(url: str) -> None:
    assert checked(url, STRICT, allow_private=False) == url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://hooks.example.com", "Webhook must use https"),
        ("https://corp.example", "Webhook domain not allowed"),
        ("https://evil.example/hooks.example.com", "Webhook domain not allowed"),
        ("https://hooks.example.com@evil.example/", "Webhook domain not allowed"),
        ("https://xcorp.example", "Webhook domain not allowed"),
        ("https://hooks.example.com:9", "Webhook port 9 not allowed"),
        ("https://hooks.example.com/" + "a" * 60, "Webhook URL too long: at most 60 characters"),
        ("https://localhost", "Webhook host blocked: loopback host 'localhost'"),
        ("/hook", "Loopback webhooks (relative URLs and localhost) are disabled by default."),
        ("//evil.example/", "Invalid webhook hostname"),
    ],
)
def test_other_urls_are_refused_with_a_sentence(url: str, said: str) -> None:
    policy = dataclasses.replace(STRICT, max_length=60)
    with pytest.raises(InvalidRequest) as raised:
        checked(url, policy, allow_private=False)
    assert str(raised.value).startswith(said.removesuffix("hostname")) or said in str(raised.value)


@pytest.mark.parametrize("url", ["/hook", "/hook?a=b", "http://localhost:9/", "http://127.0.0.1/"])
def test_this_machine_may_be_allowed(url: str) -> None:
    assert checked(url, UrlPolicy(loopback=True), allow_private=False) == url


@pytest.mark.parametrize("url", ["http://10.0.0.1/", "http://169.254.169.254/", "/\\evil.example"])
def test_other_private_addresses_are_not_meant_with_that(url: str) -> None:
    with pytest.raises(InvalidRequest):
        checked(url, UrlPolicy(loopback=True), allow_private=False)


@MOUNTS
async def test_deliveries_come_in_pages(client, records, mount: str) -> None:
    records.deliveries = {str(n): a_delivery(str(n)) for n in range(3)}
    answer = await client.get(f"{mount}/webhooks/deliveries?limit=2&status=failed")
    assert [each["delivery_id"] for each in answer.json()] == ["0", "1"]
    assert answer.headers["x-pagination-next"] == "2"
    rest = await client.get(f"{mount}/webhooks/deliveries?limit=2&offset=2")
    assert [each["delivery_id"] for each in rest.json()] == ["2"]
    assert "x-pagination-next" not in rest.headers
    assert (await client.get(f"{mount}/webhooks/deliveries?status=pending")).json() == []


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("limit=0", 422),
        ("limit=1001", 422),
        ("limit=x", 400),
        ("status=x", 422),
    ],
)
async def test_a_wrong_query_is_refused(client, query: str, status: int) -> None:
    answer = await client.get(f"/webhooks/deliveries?{query}")
    assert answer.status_code == status
    assert answer.json()["detail"]


@MOUNTS
async def test_a_delivery_is_sent_again(client, records, runtime, mount: str) -> None:
    records.deliveries = {RUN: a_delivery()}
    path = f"{mount}/webhooks/deliveries/{RUN}"
    assert (await client.get(path)).json() == a_delivery()
    assert (await client.post(f"{path}/send")).json() == a_delivery()
    assert runtime.sent_again == [(RUN, THREAD)]


async def test_an_unknown_delivery_is_not_found(client, records, runtime) -> None:
    assert (await client.get(f"/webhooks/deliveries/{UNKNOWN}")).status_code == 404
    assert (await client.post(f"/webhooks/deliveries/{UNKNOWN}/send")).status_code == 404
    assert (await client.post("/webhooks/deliveries/x/send")).status_code == 422
    assert runtime.sent_again == []
    records.deliveries = {RUN: a_delivery()}
    runtime.fail = Conflict("The contents of this delivery are not kept any more.")
    answer = await client.post(f"/webhooks/deliveries/{RUN}/send")
    assert (answer.status_code, answer.json()["detail"]) == (409, runtime.fail.message)
