"""The public keys of an issuer of tokens: found, fetched, kept, and fetched again when they roll.

A token with an unknown key makes one fetch, and none for a while afterwards, so that nobody can
make this server ask the issuer at will. While the issuer cannot be reached, known keys stay valid.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import httpx
import jwt

log = logging.getLogger("greenroom.auth")

FRESH_S = 600.0
"""After this time the keys are fetched again, in the background of nobody: by the next token."""
PAUSE_S = 10.0
"""The least time between two fetches."""
TIMEOUT_S = 5.0
MOST_BYTES = 1_000_000


class NoKeys(Exception):
    """The issuer's keys cannot be had."""


class KeySet:
    """The keys of an issuer.

    Args:
        issuer: its URL.
        url: of the keys; None: what the issuer's discovery document says.
        transport: for tests.
    """

    def __init__(
        self, issuer: str, url: str | None, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._issuer = issuer
        self._url = url
        self._transport = transport
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._fetched_s = -FRESH_S
        self._tried_s = -PAUSE_S
        self._one = asyncio.Lock()

    async def find(self, key_id: str | None) -> jwt.PyJWK | None:
        """Returns a key; None if the issuer has no such key.

        Raises:
            NoKeys: no key is known, and the issuer cannot be reached.
        """
        now = time.monotonic()
        if key_id not in self._keys or now - self._fetched_s > FRESH_S:
            await self._renew(key_id)
        if not self._keys:
            raise NoKeys
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id)

    async def _renew(self, key_id: str | None) -> None:
        async with self._one:
            now = time.monotonic()
            known = key_id in self._keys and now - self._fetched_s <= FRESH_S
            if known or now - self._tried_s < PAUSE_S:
                return
            self._tried_s = now
            try:
                self._keys = await self._fetch()
                self._fetched_s = time.monotonic()
            except (httpx.HTTPError, ValueError, KeyError, TypeError, jwt.PyJWTError) as error:
                log.warning(
                    "the keys of the issuer of tokens cannot be fetched",
                    extra={"issuer": self._issuer, "reason": f"{type(error).__name__}: {error}"},
                )

    async def _fetch(self) -> dict[str | None, jwt.PyJWK]:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, transport=self._transport) as client:
            url = self._url
            if url is None:
                place = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
                found = await _json(client, place)
                if found["issuer"] != self._issuer:
                    raise ValueError("the discovery document is of another issuer")
                url = str(found["jwks_uri"])
            content = await _json(client, url)
        keys = jwt.PyJWKSet.from_dict(content).keys
        return {key.key_id: key for key in keys if key.public_key_use in (None, "sig")}


async def _json(client: httpx.AsyncClient, url: str) -> Any:
    answer = await client.get(url, headers={"accept": "application/json"})
    answer.raise_for_status()
    if len(answer.content) > MOST_BYTES:
        raise ValueError("the answer is too long")
    return answer.json()
