"""``webhooks`` of langgraph.json: every key is honoured, or refused with a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from greenroom.core.errors import ConfigurationError
from greenroom.core.webhook_rules import UrlPolicy, WebhookRules
from greenroom.graphs.webhooks_section import parse_webhooks


def test_without_the_section_the_servers_own_rules_hold() -> None:
    for absent in (None, {}):
        assert parse_webhooks(absent) == WebhookRules()


def test_a_policy_requires_https_unless_it_says_otherwise() -> None:
    assert parse_webhooks({"url": {}}).policy == UrlPolicy(require_https=True)


def test_everything_is_read() -> None:
    rules = parse_webhooks(
        {
            "env_prefix": "MY_",
            "headers": {"x-token": "tok ${{ env.MY_TOKEN }}/${{env.MY_TOKEN}}", "x-plain": "1"},
            "url": {
                "require_https": False,
                "allowed_domains": ["Hooks.example.com", "*.corp.example"],
                "allowed_ports": [443, 8443],
                "max_url_length": 99,
                "disable_loopback": False,
            },
        }
    )
    assert rules.policy == UrlPolicy(
        allowed_domains=("hooks.example.com", "*.corp.example"),
        allowed_ports=(443, 8443),
        max_length=99,
        loopback=True,
    )
    assert rules.variables == {"MY_TOKEN"}
    assert rules.filled({"MY_TOKEN": r"a\1"}) == {"x-token": r"tok a\1/a\1", "x-plain": "1"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"urls": {}}, "'webhooks.urls' is unknown"),
        ({"url": {"https": True}}, "'webhooks.url.https' is unknown"),
        ({"url": {"require_https": "yes"}}, "must be true or false"),
        ({"url": {"allowed_domains": ["https://a"]}}, "must be a list of hosts"),
        ({"url": {"allowed_ports": [0]}}, "must be a list of ports"),
        ({"url": {"max_url_length": 0}}, "whole number from 1"),
        ({"env_prefix": ""}, "beginning of a variable's name"),
        ({"headers": {"a b": "1"}}, "not the name of a header"),
        ({"headers": {"Webhook-Id": "1"}}, "the server itself sets"),
        ({"headers": {"Host": "1"}}, "the server itself sets"),
        ({"headers": {"x": 1}}, "must be a string"),
        ({"headers": {"x": "${{ env.HOME }}"}}, "begin with 'LG_WEBHOOK_'"),
        ({"headers": {"x": "${{ secrets.A }}"}}, "placeholder"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_webhooks(given)
    assert said in str(raised.value)


def test_a_variable_that_is_missing_or_no_header_is_a_sentence_without_its_value() -> None:
    rules = parse_webhooks({"headers": {"x": "${{ env.LG_WEBHOOK_A }}"}})
    with pytest.raises(ConfigurationError, match="LG_WEBHOOK_A, which is not set"):
        rules.filled({})
    with pytest.raises(ConfigurationError, match="printable") as raised:
        rules.filled({"LG_WEBHOOK_A": "secret\r\nx-more: 1"})
    assert "secret" not in str(raised.value)
