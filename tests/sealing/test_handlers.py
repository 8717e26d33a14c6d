"""The handlers of a project: asked in another thread, held to what they promise."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk.encryption.types import DecryptResult

from greenroom.core.errors import ConfigurationError
from greenroom.graphs.configuration import parse_configuration
from greenroom.graphs.encryption import load_sealing
from greenroom.sealing import CannotOpen, Sealing
from greenroom.sealing.handlers import CannotSeal, Handlers

threads: list[str] = []


async def seal_blob(_: Any, data: bytes) -> bytes:
    threads.append(threading.current_thread().name)
    await asyncio.sleep(0)
    return data[::-1]


async def seal_json(_: Any, data: dict[str, Any]) -> dict[str, Any]:
    return {
        key: "x:" + base64.b64encode(json.dumps(value).encode()).decode()
        for key, value in data.items()
    }


async def open_json(_: Any, data: dict[str, Any]) -> dict[str, Any]:
    return {
        key: json.loads(base64.b64decode(value[2:]))
        if isinstance(value, str) and value.startswith("x:")
        else value
        for key, value in data.items()
    }


def sealing(**changes: Any) -> Sealing:
    given = {
        "seal_blob": seal_blob,
        "open_blob": seal_blob,
        "seal_json": seal_json,
        "open_json": open_json,
        "context": lambda: None,
    }
    return Sealing(Handlers(**(given | changes)))


async def test_data_comes_back_and_the_loop_is_not_used() -> None:
    both = sealing()
    sealed = await both.apart(both.seal, b"abc")
    assert b"abc" not in sealed
    assert await both.apart(both.open, sealed) == b"abc"
    assert set(threads) == {"encryption"}
    text = await both.apart(both.seal_json, b'{"a":{"b":1}}')
    assert json.loads(text)["a"].startswith("x:")
    assert json.loads(await both.apart(both.open_json, text)) == {"a": {"b": 1}}
    whole = await both.apart(both.seal_json, b"[1,2]")
    assert await both.apart(both.open_json, whole) == b"[1,2]"


def test_a_result_with_a_replacement_is_its_plain_data() -> None:
    async def rotating(_: Any, data: bytes) -> DecryptResult[bytes]:
        return DecryptResult(plaintext=data[::-1], replacement=b"new")

    both = sealing(open_blob=rotating)
    assert both.open(both.seal(b"abc")) == b"abc"


async def fails(_: Any, data: Any) -> Any:
    raise ValueError("no key service")


async def loses(_: Any, data: dict[str, Any]) -> dict[str, Any]:
    return {"other": 1}


async def returns_text(_: Any, data: bytes) -> Any:
    return "text"


@pytest.mark.parametrize(
    ("changes", "data", "said"),
    [
        ({"seal_blob": fails}, b"a", "encrypt.blob failed: ValueError: no key service"),
        ({"seal_blob": returns_text}, b"a", "encrypt.blob must return bytes"),
        ({"seal_json": fails}, b'{"a":1}', "encrypt.json failed"),
        ({"seal_json": loses}, b'{"a":1}', "must return an object with the keys it got"),
    ],
)
def test_a_handler_that_fails_stores_nothing(changes: Any, data: bytes, said: str) -> None:
    both = sealing(**changes)
    with pytest.raises(CannotSeal, match=said):
        both.seal_json(data) if data.startswith(b"{") else both.seal(data)


def test_what_cannot_be_opened_says_so() -> None:
    sealed = sealing().seal(b"a")
    with pytest.raises(CannotOpen, match=r"decrypt\.blob failed: ValueError: no key service"):
        sealing(open_blob=fails).open(sealed)


# --- the configuration ----------------------------------------------------------------------------

WHOLE = """
from langgraph_sdk import Encryption

encryption = Encryption()


@encryption.encrypt.blob
@encryption.decrypt.blob
async def turned(ctx, data):
    return data[::-1]


@encryption.encrypt.json
@encryption.decrypt.json
async def same(ctx, data):
    return data
"""


def loaded(folder: Path, text: str, keys: str | None = None) -> Sealing:
    (folder / "secret_state.py").write_text(text)
    (folder / "g.py").write_text("graph = None")
    content = {
        "dependencies": ["."],
        "graphs": {"g": "./g.py:graph"},
        "encryption": {"path": "./secret_state.py:encryption"},
    }
    return load_sealing(parse_configuration(content, folder), keys)


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "secret_state", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.mark.filterwarnings("ignore:The Encryption API is in beta")
def test_handlers_of_a_project_are_found(tmp_path: Path) -> None:
    both = loaded(tmp_path, WHOLE)
    assert both.is_slow
    assert both.open(both.seal(b"abc")) == b"abc"


@pytest.mark.filterwarnings("ignore:The Encryption API is in beta")
@pytest.mark.parametrize(
    ("text", "keys", "said"),
    [
        ("encryption = 1", None, "which is no Encryption"),
        ("from langgraph_sdk import Encryption\nencryption = Encryption()", None, "for blob"),
        (WHOLE.replace("@encryption.decrypt.json\n", ""), None, "no handler decrypt.json"),
        (WHOLE.replace("@encryption.encrypt.blob\n", ""), None, "no handler encrypt.blob"),
        (WHOLE + "\n@encryption.context\nasync def c(u, x): return {}", None, "context handler"),
        (WHOLE, "k:" + base64.b64encode(b"a" * 32).decode(), "choose one"),
    ],
)
def test_what_is_missing_is_said_at_the_start(
    tmp_path: Path, text: str, keys: str | None, said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        loaded(tmp_path, text, keys)


@pytest.mark.parametrize("value", [{}, {"path": "x"}, {"path": 1}, {"path": "a.py:b", "more": 1}])
def test_a_malformed_section_is_refused(tmp_path: Path, value: Any) -> None:
    content = {"graphs": {"g": "./g.py:graph"}, "encryption": value}
    with pytest.raises(ConfigurationError, match="encryption"):
        parse_configuration(content, tmp_path)
