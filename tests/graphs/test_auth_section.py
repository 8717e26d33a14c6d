"""``auth`` of `langgraph.json`: what it may have, and that a mistake is no note."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from greenroom.auth.loading import load_auth
from greenroom.core.access import AuthSpec, CacheSpec
from greenroom.core.errors import ConfigurationError
from greenroom.graphs.configuration import Configuration, parse_configuration

PATH = {"path": "./auth.py:auth"}


def parsed(auth: Any, root: Path = Path("/nowhere")) -> Configuration:
    return parse_configuration({"graphs": {"g": "./g.py:graph"}, "auth": auth}, root)


def test_what_it_may_have() -> None:
    openapi = {
        "securitySchemes": {"k": {"type": "http"}},
        "security": [{"k": []}],
        "paths": {"/threads": {"post": [{"k": []}]}},
    }
    cache = {"cache_keys": ["X-Key"], "ttl_seconds": 5, "max_size": 9}
    configuration = parsed(
        {**PATH, "openapi": openapi, "cache": cache, "disable_studio_auth": True}
    )
    assert configuration.auth == AuthSpec(
        target="./auth.py:auth",
        openapi=openapi,
        cache=CacheSpec(keys=("x-key",), ttl_s=5, most=9),
    )
    assert configuration.warnings == ()
    assert parsed(None).auth is None
    assert parsed({**PATH, "cache": {}}).auth == AuthSpec(
        target="./auth.py:auth", cache=CacheSpec()
    )


def test_nobody_is_let_in_for_saying_that_it_is_studio() -> None:
    (note,) = parsed({**PATH, "disable_studio_auth": False}).warnings
    assert "a claim that anybody can make" in note


@pytest.mark.parametrize(
    ("auth", "said"),
    [
        ({}, "'auth.path' is None"),
        ({"path": "./auth.py"}, "'auth.path'"),
        ({"path": 1}, "'auth.path'"),
        ({**PATH, "paths": 1}, "'paths', which Greenroom does not know"),
        ({**PATH, "cache": {"ttl": 1}}, "'ttl', which Greenroom does not know"),
        ({**PATH, "cache": {"cache_keys": []}}, "cache_keys"),
        ({**PATH, "cache": {"ttl_seconds": 0}}, "ttl_seconds"),
        ({**PATH, "cache": {"max_size": "x"}}, "max_size"),
        ({**PATH, "openapi": {"paths": {"/x": []}}}, "openapi.paths./x"),
        ({**PATH, "openapi": {"security": {}}}, "must be a list"),
        ({**PATH, "openapi": {"x": 1}}, "'x', which Greenroom does not know"),
        ({**PATH, "disable_studio_auth": "no"}, "true or false"),
        ([], "auth"),
    ],
)
def test_a_mistake_is_refused(auth: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        parsed(auth)
    assert said in str(error.value)


def test_a_setting_overrides_the_file() -> None:
    configuration = parsed({**PATH, "cache": {}})
    assert configuration.with_auth(None) is configuration
    changed = configuration.with_auth("greenroom.auth:api_keys").auth
    assert changed == AuthSpec(target="greenroom.auth:api_keys", cache=CacheSpec())
    assert parsed(None).with_auth("a.b:c").auth == AuthSpec(target="a.b:c")
    with pytest.raises(ConfigurationError, match="GREENROOM_AUTH is 'x'"):
        configuration.with_auth("x")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (None, "there is no file"),
        ("x = 1", "has no attribute 'auth'"),
        ("auth = 1", "is a int, not an Auth"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_what_cannot_be_loaded_says_why(tmp_path: Path, code: str | None, said: str) -> None:
    name = f"auth_{abs(hash(code))}"
    if code is not None:
        (tmp_path / f"{name}.py").write_text(code)
    configuration = parsed({"path": f"./{name}.py:auth"}, tmp_path)
    assert configuration.auth is not None
    with pytest.raises(ConfigurationError) as error:
        load_auth(configuration, configuration.auth)
    assert said in str(error.value)
    assert "The authentication" in str(error.value)
