"""Tokens of an issuer: what is checked, and how its keys are found and kept."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import RSAAlgorithm

from greenroom.auth import key_sets
from greenroom.auth.authenticator import HandlerAuthenticator
from greenroom.auth.calls import Inline
from greenroom.auth.key_sets import KeySet
from greenroom.auth.ready import ReadySettings
from greenroom.auth.tokens import JwtTokens
from greenroom.core.access import AuthSpec
from greenroom.core.errors import ConfigurationError, Refused
from greenroom.core.scopes import SERVER, Scope
from tests.auth.test_authenticator import request_of

ISSUER = "https://id.example"
OLD, NEW = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))


class Issuer:
    """An issuer that answers without a network."""

    def __init__(self) -> None:
        self.keys = {"old": OLD}
        self.asked: list[str] = []
        self.down = False

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        if self.down:
            return httpx.Response(503)
        if request.url.path == "/.well-known/openid-configuration":
            return httpx.Response(200, json={"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys"})
        keys = [
            {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}
            for kid, key in self.keys.items()
        ]
        return httpx.Response(200, json={"keys": keys})


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def authenticator(issuer: Issuer, tmp_path: Path) -> HandlerAuthenticator:
    tokens = JwtTokens()
    tokens.open(ReadySettings(data_dir=tmp_path, issuer=ISSUER, audience="greenroom", admin="ops"))
    tokens._keys = KeySet(ISSUER, None, httpx.MockTransport(issuer.answer))
    return HandlerAuthenticator(tokens, AuthSpec(target="greenroom.auth:jwt"), Inline())


def token(
    key: Any = OLD, kid: str | None = "old", algorithm: str = "RS256", **claims: Any
) -> dict[str, str]:
    now = int(time.time())
    given = {"iss": ISSUER, "aud": "greenroom", "sub": "ada", "exp": now + 3600} | claims
    given = {name: value for name, value in given.items() if value is not None}
    headers = {} if kid is None else {"kid": kid}
    return {"authorization": f"Bearer {jwt.encode(given, key, algorithm, headers)}"}


async def test_a_token_lets_its_subject_in(
    authenticator: HandlerAuthenticator, issuer: Issuer
) -> None:
    for _ in range(3):
        gate = await authenticator.enter(request_of(**token(name="Ada", scope="read ops2")))
        assert gate.identity == "ada"
        assert await gate.allow("threads", "read", {}) == Scope.of_filter({"owner": "ada"})
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]
    root = await authenticator.enter(request_of(**token(scope="read ops")))
    assert await root.allow("threads", "read", {}) == SERVER


SECRET = "x" * 32


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, "Send a token"),
        ({"authorization": "Basic x"}, "Send a token"),
        ({"authorization": "Bearer x"}, "not valid"),
        ({"authorization": "Bearer " + "x" * 20_000}, "Send a token"),
        (token(exp=int(time.time()) - 3600), "expired"),
        (token(exp=None), "not valid"),
        (token(nbf=int(time.time()) + 3600), "not valid"),
        (token(iss="https://other.example"), "not valid"),
        (token(aud="another"), "not valid"),
        (token(aud=None), "not valid"),
        (token(sub=None), "no claim 'sub'"),
        (token(NEW), "not valid"),
        (token(NEW, "new"), "unknown key"),
        (token(SECRET, algorithm="HS256"), "another algorithm"),
        (token(None, algorithm="none"), "another algorithm"),
        (token(ec.generate_private_key(ec.SECP256R1()), algorithm="ES256"), "not valid"),
    ],
)
async def test_what_lets_nobody_in(
    authenticator: HandlerAuthenticator, headers: dict[str, str], said: str
) -> None:
    with pytest.raises(Refused, match=said) as refused:
        await authenticator.enter(request_of(**headers))
    assert refused.value.status_hint == 401
    assert refused.value.headers()["www-authenticate"].startswith('Bearer realm="greenroom"')


async def test_clocks_may_differ_a_little(authenticator: HandlerAuthenticator) -> None:
    gate = await authenticator.enter(request_of(**token(exp=int(time.time()) - 10)))
    assert gate.identity == "ada"


async def test_keys_roll_and_unknown_ones_do_not_ask_at_will(
    authenticator: HandlerAuthenticator, issuer: Issuer, monkeypatch
) -> None:
    await authenticator.enter(request_of(**token()))
    issuer.keys = {"new": NEW}
    for _ in range(5):
        with pytest.raises(Refused, match="unknown key"):
            await authenticator.enter(request_of(**token(NEW, "new")))
    assert len(issuer.asked) == 2
    monkeypatch.setattr(key_sets, "PAUSE_S", 0.0)
    assert (await authenticator.enter(request_of(**token(NEW, "new")))).identity == "ada"
    assert len(issuer.asked) == 4


async def test_an_issuer_that_is_away(
    authenticator: HandlerAuthenticator, issuer: Issuer, monkeypatch
) -> None:
    issuer.down = True
    with pytest.raises(Refused, match="cannot be had") as refused:
        await authenticator.enter(request_of(**token()))
    assert refused.value.status_hint == 503
    monkeypatch.setattr(key_sets, "PAUSE_S", 0.0)
    issuer.down = False
    await authenticator.enter(request_of(**token()))
    issuer.down = True
    monkeypatch.setattr(key_sets, "FRESH_S", 0.0)
    assert (await authenticator.enter(request_of(**token()))).identity == "ada"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"issuer": None}, "GREENROOM_JWT_ISSUER"),
        ({"audience": None}, "GREENROOM_JWT_AUDIENCE"),
        ({"algorithms": ("HS256",)}, "HS256"),
        ({"algorithms": ()}, "nothing"),
        ({"issuer": "http://id.example"}, "https"),
        ({"jwks_url": "http://id.example"}, "https"),
        ({"issuer": "http://localhost.example"}, "https"),
    ],
)
def test_settings_that_would_let_others_in(tmp_path: Path, changes: Any, said: str) -> None:
    given = {"data_dir": tmp_path, "issuer": ISSUER, "audience": "a"} | changes
    with pytest.raises(ConfigurationError, match=said):
        JwtTokens().open(ReadySettings(**given))
