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
