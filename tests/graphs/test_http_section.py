"""``http`` of langgraph.json: every key is honoured, or refused with a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from greenroom.core.edge_rules import Cors, HeaderSelection, HttpRules
from greenroom.core.errors import ConfigurationError
from greenroom.graphs.http_section import parse_http


def parsed(**given: Any) -> HttpRules:
    rules, warnings = parse_http(given)
    assert list(warnings) == []
    return rules


def test_without_the_section_nothing_is_changed() -> None:
    for absent in (None, {}):
        assert parse_http(absent) == (HttpRules(), ())


def test_everything_is_read() -> None:
    rules = parsed(
        app="./app.py:app",
        middleware_order="auth_first",
        enable_custom_route_auth=False,
        mount_prefix="/my/pre/",
        cors={"allow_origins": ["https://a.example"], "allow_credentials": True, "max_age": 5},
        configurable_headers={"includes": ["X-Conf-*"], "excludes": ["*secret*"]},
        logging_headers={"include": ["x-log-*"]},
        disable_store=True,
        disable_mcp=True,
        disable_ui=False,
    )
    assert rules == HttpRules(
        app="./app.py:app",
        middleware_order="auth_first",
        mount_prefix="/my/pre",
        cors=Cors(allow_origins=("https://a.example",), allow_credentials=True, max_age_s=5),
        configurable_headers=HeaderSelection(includes=("x-conf-*",), excludes=("*secret*",)),
        logging_headers=HeaderSelection(includes=("x-log-*",)),
        disabled=frozenset({"store", "mcp"}),
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"apps": 1}, "'http.apps' is unknown"),
        ({"app": "./app.py"}, "'http.app' is './app.py'; it must be"),
        ({"middleware_order": "auth_last"}, "must be one of 'middleware_first', 'auth_first'"),
        ({"mount_prefix": "my"}, "must be a path that starts with '/'"),
        ({"mount_prefix": "/a b"}, "must be a path"),
        ({"mount_prefix": "/api"}, "second mount"),
        ({"cors": []}, "'http.cors' must be a JSON object"),
        ({"cors": {"origins": []}}, "'http.cors.origins' is unknown"),
        ({"cors": {"allow_origins": "*"}}, "must be a list of strings"),
        ({"cors": {"allow_origin_regex": "("}}, "no regular expression"),
        ({"cors": {"allow_credentials": "yes"}}, "must be true or false"),
        ({"cors": {"max_age": -1}}, "whole number of seconds"),
        ({"configurable_headers": {"only": []}}, "'http.configurable_headers.only' is unknown"),
        ({"logging_headers": {"includes": [], "include": []}}, "give one of them"),
        ({"disable_store": "yes"}, "'http.disable_store' is 'yes'"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_http(given)
    assert said in str(raised.value)


@pytest.mark.parametrize("cors", [{"allow_origins": ["*"]}, {"allow_origin_regex": ".*"}])
def test_cookies_from_everywhere_are_switched_off_with_a_sentence(cors: dict[str, Any]) -> None:
    rules, warnings = parse_http({"cors": {**cors, "allow_credentials": True}})
    assert rules.cors is not None
    assert not rules.cors.allow_credentials
    assert [w for w in warnings if "allow_credentials" in w] == list(warnings) != []


def test_headers_with_credentials_are_never_selected() -> None:
    everything = HeaderSelection(includes=("*",), excludes=("x-both",))
    headers = [
        ("Authorization", "s"),
        ("X-Api-Key", "s"),
        ("X-Both", "1"),
        ("X-A", "1"),
        ("x-a", "2"),
    ]
    assert everything.of(headers) == {"x-a": "2"}
    assert HeaderSelection(excludes=("x-b",)).of(headers) == {}
