"""``checkpointer.ttl`` of `langgraph.json`: the time to live of threads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from greenroom.core.errors import ConfigurationError
from greenroom.core.threads import ThreadTtl
from greenroom.graphs.configuration import Configuration, parse_configuration


def parse(checkpointer: Any) -> Configuration:
    content = {"graphs": {"a": "./a.py:g"}, "checkpointer": checkpointer}
    return parse_configuration(content, Path("/nowhere"))


def test_threads_have_a_time_to_live_a_strategy_and_a_sweep() -> None:
    ttl = {
        "strategy": "keep_latest",
        "default_ttl": 43200,
        "sweep_interval_minutes": 0.5,
        "sweep_limit": 10,
    }
    found = parse({"ttl": ttl})
    assert found.thread_ttl == ThreadTtl(
        default_minutes=43200.0,
        strategy="keep_latest",
        sweep_interval_minutes=0.5,
        sweep_limit=10,
    )
    assert found.warnings == ()


@pytest.mark.parametrize("checkpointer", [None, {}, {"ttl": None}, {"ttl": {}}])
def test_without_one_threads_stay(checkpointer: Any) -> None:
    assert parse(checkpointer).thread_ttl == ThreadTtl()


@pytest.mark.parametrize(
    ("checkpointer", "said"),
    [
        ("x", "'checkpointer' must be a JSON object"),
        ({"ttl": 5}, "'checkpointer.ttl' must be a JSON object"),
        ({"ttl": {"strategy": "bogus"}}, "it must be one of 'delete', 'keep_latest'"),
        ({"ttl": {"default_ttl": -1}}, "'checkpointer.ttl.default_ttl' is -1; it must be a number"),
        ({"ttl": {"sweep_interval_minutes": 0}}, "it must be a number of minutes above 0"),
        ({"ttl": {"sweep_limit": 0}}, "it must be a whole number, at least 1"),
        ({"ttl": {"sweep_limit": True}}, "it must be a whole number, at least 1"),
    ],
)
def test_a_wrong_section_is_refused_with_a_sentence(checkpointer: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(checkpointer)
    assert said in str(caught.value)


def test_what_has_no_effect_is_said() -> None:
    [unknown] = parse({"ttl": {"x": 1}}).warnings
    assert unknown == "'checkpointer.ttl.x' is unknown to Greenroom, and has no effect."
