"""Integers of a body: exact, or refused with a sentence."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.wire.splitting import long_integer, split
from tests.http.edge_doubles import THREAD, MemoryRecords, MemoryRuntime

FIT = [2**63 - 1, 2**63, 2**64 - 1, -(2**63), 10**18, 0, -1]
TOO_LONG = [2**64, -(2**63) - 1, 10**19 * 2, 10**40, -(10**25), 10**5000]


def texts(number: int) -> list[str]:
    sign, digits = ("-", -number) if number < 0 else ("", number)
    # Python writes no more than 4300 digits at once.
    text = sign + ("1" + "0" * 5000 if digits == 10**5000 else str(digits))
    return [
        text,
        f"[{text}]",
        f'{{"a": {text}}}',
        f'{{"a":[1,{{"b\\\\":[ {text} ]}}]}}',
        f'["\\"", "\\\\", {text}\n]',
        f"[{text},{text}]",
    ]


def refused(text: str) -> bool:
    found = long_integer(text.encode())
    assert (split(text.encode(), 100).verdict == "long") is (found is not None), "a large body"
    return found is not None


@pytest.mark.parametrize("number", FIT)
def test_what_has_64_bits_is_let_through(number: int) -> None:
    assert not any(map(refused, texts(number)))


@pytest.mark.parametrize("number", TOO_LONG, ids=lambda number: number.bit_length())
def test_what_has_more_is_refused_wherever_it_is(number: int) -> None:
    assert all(map(refused, texts(number)))


@pytest.mark.parametrize(
    "text",
    [
        '"99999999999999999999999"',
        '"an id 99999999999999999999999, for example"',
        '["\\\\\\"", "[99999999999999999999999]"]',
        '{"99999999999999999999999 ": 1}',
        "99999999999999999999999.5",
        "0.99999999999999999999999",
        "[99999999999999999999999e3, 1.5e99999999999999999999999]",
        '"ab99999999999999999999999"',
        '"\\\\", "\\u00999999999999999999999999"',
    ],
)
def test_text_and_fractions_are_let_through(text: str) -> None:
    assert not refused(text)


VALUES = st.recursive(
    st.none()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text('0123456789"\\ ,:[]{}-a', max_size=40),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('"\\9 ', max_size=25), inner),
)


@given(VALUES, st.sampled_from([None, 1]))
def test_it_agrees_with_a_parser(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    long: list[int] = []

    def noted(digits: str) -> int:
        number = int(digits)
        if not -(2**63) <= number < 2**64:
            long.append(number)
        return number

    json.loads(text, parse_int=noted)
    assert refused(text) == bool(long)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"/threads/{THREAD}/runs", '{"assistant_id": "counter", "input": {"n": [NUMBER]}}'),
        ("/runs/wait", '{"assistant_id": "counter", "metadata": {"n": NUMBER}}'),
        ("/runs/batch", '[{"assistant_id": "counter", "context": {"n": NUMBER}}]'),
        (
            "/runs/stream",
            '{"assistant_id": "counter", "config": {"configurable": {"n": -NUMBER}}}',
        ),
        (f"/threads/{THREAD}/state", '{"values": {"n": {"m": NUMBER}}}'),
        ("/threads", '{"metadata": {"n": NUMBER}}'),
        ("/threads/search", '{"values": {"n": NUMBER}}'),
        (f"/threads/{THREAD}/history", '{"metadata": {"n": NUMBER}}'),
    ],
)
async def test_every_body_is_looked_at(
    client: httpx.AsyncClient, records: MemoryRecords, runtime: MemoryRuntime, path: str, body: str
) -> None:
    records.add_thread()
    answered = await client.post(path, content=body.replace("NUMBER", str(2**64)))
    assert answered.status_code == 422
    assert re.search(r"integer -?18446744073709551616, .* as a string", answered.json()["detail"])
    assert not runtime.requests


async def test_an_integer_of_64_bits_arrives_as_it_was_sent(
    client: httpx.AsyncClient, records: MemoryRecords, runtime: MemoryRuntime
) -> None:
    records.add_thread()
    given = {"n": [2**64 - 1, -(2**63)]}
    await client.post(f"/threads/{THREAD}/runs", json={"assistant_id": "counter", "input": given})
    assert json.loads(runtime.requests[-1].kwargs)["input"] == given
