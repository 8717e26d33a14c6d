"""Filters of handlers: what they mean, and that what is not understood matches nothing."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from greenroom.core.scopes import SERVER, Either, Equals, Every, Holds, Scope, UnknownFilter
from tests.scopes import admits


def of(given: Any) -> Scope:
    return Scope.of_filter(given)


def test_the_documented_forms() -> None:
    assert of({"owner": "ada"}) == of({"owner": {"$eq": "ada"}}) == Scope(Equals("owner", '"ada"'))
    assert of({"tags": {"$contains": "x"}}) == Scope(Holds("tags", '["x"]'))
    assert of({"tags": {"$contains": ["x", "y"]}}) == Scope(Holds("tags", '["x", "y"]'))
    assert of({}) == SERVER
    either = of({"$or": [{"a": 1}, {"$and": [{"b": 2}, {"c": None}]}]})
    assert either.term == Either((Equals("a", "1"), Every((Equals("b", "2"), Equals("c", "null")))))
    assert of({"id": uuid.UUID(int=1)}) == of({"id": str(uuid.UUID(int=1))})


@pytest.mark.parametrize(
    ("given", "metadata", "within"),
    [
        ({"n": 1}, {"n": 1.0}, True),
        ({"n": 1}, {"n": True}, False),
        ({"n": None}, {}, False),
        ({"n": None}, {"n": None}, True),
        ({"n": ["x", "y"]}, {"n": ["x", "y"]}, True),
        ({"n": ["x"]}, {"n": ["x", "y"]}, False),
        ({"n": {"$eq": {"k": 1}}}, {"n": {"k": 1, "l": 2}}, False),
        ({"n": {"$contains": "x"}}, {"n": "x"}, False),
        ({"n": {"$contains": ["x", "y"]}}, {"n": ["y", "z", "x"]}, True),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"a": {"$eq": ["x"], "$contains": "x"}}, {"a": ["x"]}, True),
        ({"$or": [{"a": 1}, {"b": 2}]}, {"b": 2}, True),
    ],
)
def test_what_a_filter_admits(given: Any, metadata: Any, within: bool) -> None:
    assert admits(of(given), metadata) is within


@pytest.mark.parametrize(
    "given",
    [
        {"owner": {"$in": ["a"]}},
        {"owner": {"$ne": "a"}},
        {"owner": {"nested": 1}},
        {"owner": {"$eq": "a", "$gt": 1}},
        {"owner": {"$or": [{"a": 1}]}},
        {"owner": {}},
        {"$not": {"a": 1}},
        {"$or": []},
        {"$or": {"a": 1}},
        {"$and": ["a"]},
        {"tags": {"$contains": []}},
        {"tags": {"$contains": [{"a": 1}]}},
        {"tags": {"$contains": {"a": 1}}},
        {1: "a"},
        {"owner": float("nan")},
        {
            "$or": [
                {
                    "$or": [
                        {
                            "$or": [
                                {
                                    "$or": [
                                        {
                                            "$or": [
                                                {
                                                    "$or": [
                                                        {
                                                            "$or": [
                                                                {
                                                                    "$or": [
                                                                        {
                                                                            "$or": [
                                                                                {"$or": [{"a": 1}]}
                                                                            ]
                                                                        }
                                                                    ]
                                                                }
                                                            ]
                                                        }
                                                    ]
                                                }
                                            ]
                                        }
                                    ]
                                }
                            ]
                        }
                    ]
                }
            ]
        },
    ],
)
def test_what_is_not_understood_is_an_error(given: Any) -> None:
    with pytest.raises(UnknownFilter):
        of(given)


def test_scopes_are_joined_and_written_down() -> None:
    mine, shared = of({"owner": "a"}), of({"tags": {"$contains": "x"}, "n": [1]})
    assert mine & SERVER == SERVER & mine == mine & mine == mine
    both = mine & shared
    assert admits(both, {"owner": "a", "tags": ["x"], "n": [1]})
    assert not admits(both, {"owner": "b", "tags": ["x"], "n": [1]})
    for scope in (SERVER, Scope.nothing(), both, of({"$or": [{"a": 1}, {"b": "\u00e9"}]})):
        assert Scope.from_json(scope.to_json()) == scope
    assert not admits(Scope.nothing(), {"owner": "a"})
    with pytest.raises(ValueError, match="no scope"):
        Scope.from_json('["?"]')
