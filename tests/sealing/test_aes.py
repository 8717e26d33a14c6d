"""AES-GCM: what comes back, what does not, and what is said about keys."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.core.errors import ConfigurationError
from greenroom.sealing import MARK, CannotOpen, Sealing
from greenroom.sealing.aes import AesGcm
from greenroom.sealing.runs import opened_run, sealed_run

OLD, NEW = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))
SEALING = Sealing(AesGcm.of_text(f"old:{OLD}"))

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.binary())
def test_bytes_come_back(data: bytes) -> None:
    sealed = SEALING.seal(data)
    assert sealed != data
    assert SEALING.open(sealed) == data


@given(json_values)
def test_json_comes_back(value: object) -> None:
    text = json.dumps(value).encode()
    assert json.loads(SEALING.open_json(SEALING.seal_json(text))) == value


@given(st.dictionaries(st.text(), json_values, min_size=1))
def test_an_object_keeps_its_keys_and_shows_no_value(value: dict[str, object]) -> None:
    sealed = json.loads(SEALING.seal_json(json.dumps(value).encode()))
    assert [*sealed] == [*value]
    assert all(each.startswith("gr1:") for each in sealed.values())


def test_nothing_is_sealed_twice_into_the_same() -> None:
    assert SEALING.seal(b"a") != SEALING.seal(b"a")


@pytest.mark.parametrize("data", [b"", b'"plain"', b'{"a":1}'])
def test_what_an_earlier_server_has_not_sealed_is_read(data: bytes) -> None:
    assert SEALING.open(data) == data
    assert SEALING.open_json(data or b"null") == (data or b"null")


def test_a_text_that_looks_sealed_and_is_not_stays() -> None:
    assert SEALING.open_json(b'{"a":"gr1:not base64"}') == b'{"a":"gr1:not base64"}'


def test_the_first_key_seals_and_all_open() -> None:
    sealed = SEALING.seal(b"a")
    both = Sealing(AesGcm.of_text(f"new:{NEW}, old:{OLD}"))
    assert both.open(sealed) == b"a"
    with pytest.raises(CannotOpen, match="the key 'new', which this server does not have"):
        SEALING.open(both.seal(b"a"))


def test_another_key_of_that_name_does_not_fit() -> None:
    with pytest.raises(CannotOpen, match="does not fit its key 'old'"):
        Sealing(AesGcm.of_text(f"old:{NEW}")).open(SEALING.seal(b"a"))


def test_changed_data_is_refused() -> None:
    sealed = bytearray(SEALING.seal(b"abc"))
    sealed[-1] ^= 1
    with pytest.raises(CannotOpen, match="the data was changed"):
        SEALING.open(bytes(sealed))
    with pytest.raises(CannotOpen):
        SEALING.open(MARK)


def test_without_keys_sealed_data_is_refused_with_a_sentence() -> None:
    with pytest.raises(CannotOpen, match="set GREENROOM_ENCRYPTION_KEYS"):
        Sealing().open(SEALING.seal(b"a"))


@pytest.mark.parametrize(
    "text",
    ["", OLD, f":{OLD}", "a:short", "a:not base64!", f"a:{OLD},a:{NEW}", f"a b:{OLD}", f"a:{OLD},"],
)
def test_malformed_keys_are_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ConfigurationError, match="32 bytes in base64") as refused:
        AesGcm.of_text(text)
    assert OLD not in str(refused.value)


def test_a_run_keeps_what_the_server_reads() -> None:
    run = {
        "input": {"secret": "s"},
        "command": {"resume": "s", "goto": "n"},
        "context": {"key": "s"},
        "config": {
            "tags": ["t"],
            "configurable": {"thread_id": "t", "checkpoint_id": "c", "token": "s"},
        },
        "stream_mode": ["values"],
        "webhook": None,
    }
    from greenroom.wire.encoding import dumps

    text = dumps(sealed_run(SEALING, run))
    sealed = json.loads(text)
    assert b'"s"' not in text
    assert [*sealed["command"]] == ["resume", "goto"]
    assert [*sealed["context"]] == ["key"]
    assert sealed["config"]["tags"] == ["t"]
    assert sealed["config"]["configurable"]["checkpoint_id"] == "c"
    assert sealed["stream_mode"] == ["values"]
    assert json.loads(opened_run(SEALING, text)) == run


@pytest.mark.parametrize("run", [{}, {"input": None, "command": None, "config": None}])
def test_a_run_without_anything_to_seal_stays(run: dict[str, None]) -> None:
    text = json.dumps(sealed_run(SEALING, run)).encode()
    assert json.loads(opened_run(SEALING, text)) == run
