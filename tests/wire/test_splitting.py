"""A large body taken apart: the same verdict as orjson's, the same value in the end."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from greenroom.machine import NICENESS
from greenroom.wire import splitting
from greenroom.wire.splitting import PART_BYTES, Split, is_deep, split, split_apart
from tests.actors.doubles import until

LARGE = b"x" * PART_BYTES


def joined(found: Split) -> Any:
    """The body again."""
    value = orjson.loads(found.skeleton)
    for (*above, name), part in found.parts:
        holder = value
        for key in above:
            holder = holder[key]
        assert holder[name] is None
        holder[name] = orjson.loads(part)
    return value


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        (b'{"input": ["%b"], "assistant_id": "a"}', [("input",)]),
        (b'{"input": "%b"}', [("input",)]),
        (b' {"command": {"update": {"k": "%b"}, "goto": "n"}}', [("command", "update")]),
        (b'{"command": {"resume": "%b", "update": null}}', [("command", "resume")]),
        (b'{"values": {"k": "%b"}, "as_node": null}', [("values",)]),
        (b'{"values": [{"k": "%b"}]}', [("values",)]),
        # Not what belongs there: whoever checks the body must see it.
        (b'{"values": "%b"}', []),
        (b'{"command": {"update": [["k", "%b"]]}}', []),
        (b'{"command": "%b"}', []),
        (b'{"metadata": {"k": "%b"}}', []),
        (b'["%b"]', []),
        (b'"%b"', []),
    ],
)
def test_large_parts_that_are_only_passed_on_stay_as_they_were_written(
    body: bytes, paths: list[tuple[str, ...]]
) -> None:
    raw = body % LARGE
    found = split(raw, 100)
    assert [path for path, _ in found.parts] == paths
    assert joined(found) == orjson.loads(raw)
    if paths:
        assert len(found.skeleton) < 1000


def test_of_a_repeated_key_the_last_one_counts() -> None:
    raw = b'{"input": ["%b", 1], "input": ["%b", 2]}' % (LARGE, LARGE)
    assert joined(split(raw, 100)) == orjson.loads(raw)


def test_small_parts_are_all_in_the_skeleton() -> None:
    found = split(b'{"input": {"a": [1, "\\u00e9"]}, "command": {"resume": 1}}', 100)
    assert found.parts == ()
    assert orjson.loads(found.skeleton) == {"input": {"a": [1, "é"]}, "command": {"resume": 1}}


@pytest.mark.parametrize("number", ["1" * 400, "18446744073709551616", "-9223372036854775809"])
def test_an_integer_of_more_than_64_bits_is_named(number: str) -> None:
    raw = b'{"input": ["%b", %b]}' % (LARGE, number.encode())
    assert split(raw, 100) == Split("long", number.encode())


@pytest.mark.parametrize("number", ["1e999", "-1e999", "123456E304", "1.5e+400"])
def test_a_body_with_a_doubtful_number_is_left_to_orjson(number: str) -> None:
    raw = b'{"input": ["%b", %b]}' % (LARGE, number.encode())
    assert split(raw, 100) == Split("good", raw)


@pytest.mark.parametrize("text", ["1e999", "2" * 30, "deadbeef0e000", "x,12345678901234567890"])
def test_a_text_that_looks_like_one_does_no_harm(text: str) -> None:
    raw = orjson.dumps({"input": [LARGE.decode(), text]})
    assert joined(split(raw, 100)) == orjson.loads(raw)


BODIES = [
    b'{"a":[1,2.5e-3,{"b":"x\\u00e9y\\ud83d\\ude00","c":null,"d":[true,false,-0.1E+9]}],"z":"q"}',
    b'{"k":{"n":[[],{},"",0,"\xc3\xa9"]},"e":1e5, "command": {"update": {}, "goto": ["a"]}}',
    b'[{"k":"\\\\\\"[{"}, "}]", {"\\\\": "\\u005b"}]',
]
BYTES = b'{}[]",:0123456789.eE+-\\untfalsdb \x00\xff\xc3\xa9x'


def test_it_accepts_what_orjson_accepts_whatever_is_wrong() -> None:
    draw = random.Random(3)
    accepted = 0
    for _ in range(30_000):
        raw = bytearray(draw.choice(BODIES))
        for _ in range(draw.randint(0, 3)):
            place, act = draw.randrange(len(raw)), draw.random()
            if act < 0.4:
                raw[place] = draw.choice(BYTES)
            elif act < 0.7:
                del raw[place]
            else:
                raw.insert(place, draw.choice(BYTES))
        found = split(bytes(raw), 100)
        try:
            expected = orjson.loads(raw)
        except orjson.JSONDecodeError:
            # What it has doubts about it passes on.
            assert found.verdict == "wrong" or found.skeleton == raw, raw
            continue
        if found.verdict == "good":
            accepted += 1
            assert joined(found) == expected
        else:
            assert (found.verdict, b"\\u0000" in raw) == ("nul", True), raw
    assert accepted > 1000


def nested(draw: random.Random, depth: int) -> Any:
    """Something with that many levels, and texts full of brackets and quotes."""
    text = "".join(draw.choice('[]{}"\\x') for _ in range(draw.randrange(6)))
    if not depth:
        return text
    beside = [nested(draw, draw.randrange(depth)) for _ in range(draw.randrange(3))]
    inside = [*beside, nested(draw, depth - 1)]
    draw.shuffle(inside)
    if draw.random() < 0.5:
        return inside
    return {f"{text}{number}": each for number, each in enumerate(inside)}


def test_depth_is_counted_in_brackets_outside_of_texts() -> None:
    draw = random.Random(5)
    for _ in range(500):
        depth = draw.randint(1, 12)
        raw = orjson.dumps(nested(draw, depth))
        assert not is_deep(raw, depth), raw
        assert is_deep(raw, depth - 1), raw
    assert split(b'{"input": %b1%b}' % (b"[" * 100, b"]" * 100), 100).verdict == "deep"


def test_a_nul_is_found() -> None:
    assert split(b'{"input": "a\\u0000"}', 100).verdict == "nul"
    assert split(b'{"input": "a\\\\u0000"}', 100).verdict == "good"


# --- the child ------------------------------------------------------------------------------------


async def in_chunks(raw: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    for start in range(0, len(raw), size):
        yield raw[start : start + size]


async def test_a_child_does_the_same() -> None:
    raw = b'{"input": [%b], "assistant_id": "a"}' % b",".join([b'{"a":1}'] * 400_000)
    found = await split_apart(in_chunks(raw), 100)
    assert found == split(raw, 100)
    assert (await split_apart(in_chunks(b"{"), 100)).verdict == "wrong"


async def test_the_child_has_a_cpu_after_processes_that_answer() -> None:
    child = splitting.child_process(100)
    try:
        await until(lambda: os.getpriority(os.PRIO_PROCESS, child.pid) == NICENESS)
    finally:
        child.communicate(b"{}")


async def test_a_body_that_breaks_off_ends_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    children = []
    started = splitting.child_process

    def noted(max_depth: int) -> Any:
        children.append(started(max_depth))
        return children[-1]

    monkeypatch.setattr(splitting, "child_process", noted)

    async def broken() -> AsyncIterator[bytes]:
        yield b"{" * 2_000_000
        raise ConnectionError("the client has gone")

    with pytest.raises(ConnectionError):
        await split_apart(broken(), 100)
    assert children[0].returncode is not None


async def test_a_child_that_is_killed_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    started = splitting.child_process

    def killed(max_depth: int) -> Any:
        child = started(max_depth)
        child.kill()
        return child

    monkeypatch.setattr(splitting, "child_process", killed)
    with pytest.raises(splitting.Failed):
        await asyncio.wait_for(split_apart(in_chunks(b"{}" * 1_000_000), 100), 30)
