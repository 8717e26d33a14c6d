"""Splits a large JSON body into parts without building Python objects for the large ones.

As Python objects a body needs up to 25 times its size, and parsing it blocks the event loop for
seconds. The large parts of a run (its input, a command's update) are only passed on, as JSON. So a
child process checks the whole body and returns its small parts as one JSON object, the *skeleton*,
and its large parts as unchanged bytes.

    to the child's stdin     the body
    from its stdout          4 bytes: the length of the header
                             the header, JSON: {"verdict", "parts": [[path, bytes], ...]}, where the
                             skeleton is the part whose path is empty
                             each part

The child accepts the same JSON as orjson. A body with a number that orjson may refuse or change is
returned whole, and orjson decides. The child runs as a file, and imports only msgspec and the
standard library.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec

PART_BYTES = 64 * 1024
"""The size in bytes from which a part is passed on unchanged."""
WRITE_BYTES = 1024 * 1024
NICENESS = 15
"""Of the child, as `greenroom.machine.NICENESS`, which it does not import."""

OPAQUE: dict[tuple[str, ...], bytes] = {
    ("input",): b"",
    ("values",): b"{[",
    ("value",): b"{",
    ("command", "update"): b"{",
    ("command", "resume"): b"",
}
"""The parts that are not read before the run executes, and their first bytes (empty: any)."""

_LENGTH = struct.Struct(">I")
_OBJECT = re.compile(rb"\s*\{")
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_TEXT = re.compile(rb'"[^"]*"')
_DOUBTFUL = re.compile(rb"[\[:,\s-](?:\d{20}|\d[\d.]*[eE]\+?\d{3})")
"""Numbers that may exceed a finite float or a 64-bit integer; also strings that look like them."""
_DIGITS = bytes.maketrans(b"123456789E", b"000000000e")
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NO_MARKS = bytes(set(range(256)) - set(b'[]{}"'))

_ANY_DIGIT = bytes(ord("0") if chr(byte) in "0123456789" else ord(" ") for byte in range(256))
"""Maps each digit to 0 and each other byte to a blank, to search runs of digits at C's speed."""

_LONG = b"0" * 19
"""As many digits as the smallest integer that may not fit."""

Verdict = Literal["good", "wrong", "deep", "nul", "long"]
Fields = dict[str, msgspec.Raw]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Split:
    """A body, split into its parts.

    Attributes:
        verdict: whether the body is valid. Otherwise the other attributes are empty, except that
            the skeleton is the integer if an integer is too long.
        skeleton: JSON of the body, with null in place of each part.
        parts: the large parts as JSON, by path.
    """

    verdict: Verdict
    skeleton: bytes = b"null"
    parts: tuple[tuple[tuple[str, ...], bytes], ...] = ()


def split(raw: bytes, max_depth: int) -> Split:
    """Splits a body; the child calls it.

    Args:
        raw: the body.
        max_depth: the deepest allowed nesting of the JSON.
    """
    fields: Fields = {}
    try:
        _check_text(raw)
        if _OBJECT.match(raw):
            fields = msgspec.json.decode(raw, type=Fields)
        else:
            msgspec.json.decode(raw, type=msgspec.Raw)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return Split("wrong")
    if is_deep(raw, max_depth):
        return Split("deep")
    if has_nul(raw):
        return Split("nul")
    if (number := long_integer(raw)) is not None:
        return Split("long", number)
    if not fields or _is_doubtful(raw):
        return Split("good", raw)
    command = _opened(fields.get("command"))
    parts: list[tuple[tuple[str, ...], bytes]] = []
    for path, beginnings in OPAQUE.items():
        holder = fields if len(path) == 1 else command
        data = bytes(holder.get(path[-1], b""))
        if len(data) >= PART_BYTES and (not beginnings or data[0] in beginnings):
            parts.append((path, data))
            holder[path[-1]] = msgspec.Raw(b"null")
    if command:
        fields["command"] = msgspec.Raw(msgspec.json.encode(command))
    return Split("good", msgspec.json.encode(fields), tuple(parts))


def _opened(value: msgspec.Raw | None) -> Fields:
    if value is None or bytes(memoryview(value)[:1]) != b"{":
        return {}
    return msgspec.json.decode(value, type=Fields)


def _check_text(raw: bytes) -> None:
    # Piece by piece, since decoding the whole body would double its memory.
    decoder = codecs.getincrementaldecoder("utf-8")()
    for piece in _pieces(raw):
        decoder.decode(piece)
    decoder.decode(b"", final=True)


def has_nul(raw: bytes) -> bool:
    """Returns whether a string in the JSON has the character U+0000."""
    return b"\\u0000" in raw and _NUL.search(raw) is not None


def is_deep(raw: bytes, limit: int) -> bool:
    """Returns whether valid JSON is nested more than ``limit`` levels deep."""
    if raw.count(b"{") + raw.count(b"[") <= limit:
        return False
    if b"\\" in raw:
        raw = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = raw.translate(_BRACKETS, _NO_MARKS)
    # Adjacent quotes can be removed: the rest stays inside or outside of strings as before.
    marks = _TEXT.sub(b"", marks.replace(b'""', b""))
    for _ in range(limit):
        if not marks:
            return False
        marks = marks.replace(b"[]", b"")  # the innermost level
    return bool(marks)


def long_integer(raw: bytes) -> bytes | None:
    """Returns the first integer of valid JSON that is below -2**63 or beyond 2**64 - 1.

    orjson, and most later code, would silently convert it to a float.
    """
    digits = raw.translate(_ANY_DIGIT)
    at, counted, quotes = digits.find(_LONG), 0, 0
    while at >= 0:
        end = digits.find(b" ", at)
        end = len(raw) if end < 0 else end
        begin = at - 1 if raw[at - 1 : at] == b"-" else at
        if _is_alone(raw, begin, end) and not _fits(raw[begin:end]):
            # A number within a string has an odd number of quotes before it.
            quotes += _quotes(raw[counted:at])
            counted = at
            if quotes % 2 == 0:
                return raw[begin:end]
        at = digits.find(_LONG, end)
    return None


def _is_alone(raw: bytes, begin: int, end: int) -> bool:
    """Returns whether digits are a whole number, not a part of a word, a fraction or a power."""
    return raw[begin - 1 : begin] in _BEFORE and raw[end : end + 1] in _AFTER


_BEFORE = frozenset((b"", *(bytes([byte]) for byte in b":,[ \t\r\n")))
_AFTER = frozenset((b"", *(bytes([byte]) for byte in b",]} \t\r\n")))


def _fits(number: bytes) -> bool:
    return len(number) <= 20 and -(2**63) <= int(number) < 2**64


def _quotes(part: bytes) -> int:
    """Returns the number of quotes that begin or end a string in a part of valid JSON."""
    return part.replace(b"\\\\", b"").replace(b'\\"', b"").count(b'"')


def _is_doubtful(raw: bytes) -> bool:
    # A search without a regular expression is twenty times as fast, and suffices for most bodies.
    digits = raw.translate(_DIGITS)
    if not any(sign in digits for sign in (b"0" * 20, b"0e000", b"0e+000")):
        return False
    return _DOUBTFUL.search(raw) is not None


def _pieces(raw: bytes) -> Iterator[bytes]:
    for start in range(0, len(raw), WRITE_BYTES):
        yield raw[start : start + WRITE_BYTES]


def main() -> None:
    """Runs the child, after processes that answer: a large body delays nobody's small one."""
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    found = split(sys.stdin.buffer.read(), int(sys.argv[1]))
    parts = [((), found.skeleton), *found.parts]
    sizes = [[path, len(data)] for path, data in parts]
    header = json.dumps({"verdict": found.verdict, "parts": sizes}).encode()
    output = sys.stdout.buffer
    output.write(_LENGTH.pack(len(header)) + header)
    for _, data in parts:
        output.write(data)
    output.flush()


# --- the parent -----------------------------------------------------------------------------------


class Failed(Exception):
    """The child gave no answer: it was killed, or could not be started."""


async def split_apart(chunks: AsyncIterator[bytes], max_depth: int) -> Split:
    """Splits an arriving body in a child process, without blocking the event loop.

    Args:
        chunks: the chunks of the body.
        max_depth: as in `split`.

    Raises:
        Failed: the child was killed, or could not be started.
        Exception: any error that ``chunks`` raises; the child is ended.
    """
    child = await _in_thread(child_process, max_depth)
    try:
        stdin, stdout = child.stdin, child.stdout
        assert stdin is not None
        assert stdout is not None
        gathered: list[bytes] = []
        size = 0
        async for chunk in chunks:
            gathered.append(chunk)
            size += len(chunk)
            if size >= WRITE_BYTES:
                await _in_thread(stdin.write, b"".join(gathered))
                gathered, size = [], 0
        await _in_thread(stdin.write, b"".join(gathered))
        await _in_thread(stdin.close)
        return await _in_thread(_answer, stdout.read)
    finally:
        child.kill()
        await asyncio.shield(asyncio.to_thread(_ended, child))


async def _in_thread(work: Callable[..., T], *args: Any) -> T:
    try:
        return await asyncio.to_thread(work, *args)
    except OSError as error:
        raise Failed(str(error)) from error


def child_process(max_depth: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-B", __file__, str(max_depth)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def _answer(read: Callable[[int], bytes]) -> Split:
    length = read(_LENGTH.size)
    if len(length) != _LENGTH.size:
        raise Failed("it ended without an answer")
    header = json.loads(read(_LENGTH.unpack(length)[0]))
    (_, skeleton), *parts = [(tuple(path), read(size)) for path, size in header["parts"]]
    return Split(header["verdict"], skeleton, tuple(parts))


def _ended(child: subprocess.Popen[bytes]) -> None:
    child.wait()
    for end in (child.stdin, child.stdout):
        with suppress(OSError):  # the bytes written last are of no use any more
            if end is not None:
                end.close()


if __name__ == "__main__":
    main()
