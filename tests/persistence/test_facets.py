"""What of a thread's state can be looked up in an index."""

from __future__ import annotations

import json

import pytest

from greenroom.persistence.facets import facets_of


@pytest.mark.parametrize(
    ("state", "facets"),
    [
        ({"n": 1, "f": 0.5, "b": True, "s": "x"}, {"n": 1, "f": 0.5, "b": True, "s": "x"}),
        ({"log": [1], "deep": {"x": 1}, "none": None}, {}),
        (
            {"much": ["x" * 9000], "n": 1, "ü": "\U0001f600", "s": "x" * 9000},
            {"n": 1, "ü": "\U0001f600"},
        ),
        (
            {"deep": {"n": "x" * 9000}, "big": 2**80, "f": 0.5, "none": None},
            {"big": 2**80, "f": 0.5},
        ),
        (["x" * 9000], {}),
        ("x" * 9000, {}),
        ({"long": "x" * 300, "ü": "ü" * 100, "short": "x" * 250}, {"short": "x" * 250}),
        ({"nul\0": "a\0b"}, {"nul\ufffd": "a\ufffdb"}),
        ({"big": 2**80}, {"big": 2**80}),
        ([1, 2], {}),
        (None, {}),
    ],
)
def test_facets_are_the_short_plain_values_at_the_top(state: object, facets: object) -> None:
    assert facets_of(json.dumps(state).encode()) == facets


def test_half_a_surrogate_pair_leaves_nothing_to_look_up() -> None:
    assert facets_of(b'{"x": 1, "half": "\\ud83d"}') == {}


def test_the_facets_of_a_large_state_are_those_of_a_small_one() -> None:
    small = {"s": "\U0001f600" * 21, "t": "\U0001f600" * 22, "n": -1, "f": 1e300, "b": False}
    facets = facets_of(json.dumps(small).encode())
    assert facets == {name: small[name] for name in ("s", "n", "f", "b")}
    for large in ({**small, "much": ["x"] * 9000}, {"much": {"s": "y" * 9000}, **small}):
        assert facets_of(json.dumps(large).encode()) == facets
        assert facets_of(json.dumps(large, ensure_ascii=False).encode()) == facets


def test_what_is_no_json_has_no_facets() -> None:
    assert facets_of(b'{"x": "' + b"y" * 9000) == {}
