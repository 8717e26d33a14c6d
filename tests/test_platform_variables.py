"""Variables of the Platform are named at the start, with what takes their place."""

from __future__ import annotations

import re

import pytest

from greenroom.graphs.placements import PlacementSpec
from greenroom.platform_variables import without_effect
from greenroom.settings import PREFIX, Settings


def test_each_variable_is_named_once_wherever_it_is_set() -> None:
    own = {"BG_JOB_TIMEOUT_SECS": "4", "PATH": "/bin", "N_JOBS_PER_WORKER": "2"}
    found = list(without_effect(own, {"N_JOBS_PER_WORKER": "3", "N_JOBS_OF_LATER": "1"}))
    assert [sentence.split()[0] for sentence in found] == [
        "BG_JOB_TIMEOUT_SECS",
        "N_JOBS_OF_LATER",
        "N_JOBS_PER_WORKER",
    ]
    assert "'timeout_s'" in found[0]


@pytest.mark.parametrize("name", ["LANGGRAPH_CONFIG", "LANGGRAPH_STRICT_MSGPACK", "LANGGRAPH_X"])
def test_what_has_an_effect_or_is_nobodys_is_not_named(name: str) -> None:
    assert list(without_effect({name: "1"})) == []


def test_what_is_named_instead_exists() -> None:
    from greenroom.platform_variables import INSTEAD

    told = " ".join(without_effect(dict.fromkeys(INSTEAD, "1")))
    settings = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    assert set(re.findall(rf"{PREFIX}[A-Z_]+", told)) <= settings
    placement = set(PlacementSpec.__dataclass_fields__)
    keys = {*placement, "auth", "checkpointer", "encryption", "http", "store", "graphs", "webhooks"}
    assert set(re.findall(r"'([a-z_]+)'", told)) <= keys
