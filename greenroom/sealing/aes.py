"""AES-GCM with 256-bit keys, of which the first one seals and all open.

    sealed = length of the key's name, the name, 12 random bytes, ciphertext with its tag

The key is changed by putting a new one in front. What an old key has sealed needs that key for as
long as it is stored.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from greenroom.core.errors import ConfigurationError
from greenroom.sealing import CannotOpen

VARIABLE = "GREENROOM_ENCRYPTION_KEYS"
KEY_BYTES = 32
_NONCE_BYTES = 12
_NAME = re.compile(r"[A-Za-z0-9._-]{1,40}")
_TEXT = b'"gr1:'
"""The begin of a sealed value of an object, as JSON."""


class AesGcm:
    """Implements `greenroom.sealing.Cipher`.

    Args:
        keys: 32 bytes each, by name; the first one seals.
    """

    is_slow = False

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = {name: AESGCM(key) for name, key in keys.items()}
        self._newest = next(iter(self._keys))

    @classmethod
    def of_text(cls, text: str) -> AesGcm:
        """Makes the cipher of a text such as ``2026:BASE64,2025:BASE64``.

        Raises:
            ConfigurationError: the text has another form; the message has no part of a key.
        """
        keys: dict[str, bytes] = {}
        for number, part in enumerate(text.split(","), 1):
            name, _, encoded = part.strip().partition(":")
            try:
                key = base64.b64decode(encoded.strip(), validate=True)
            except (binascii.Error, ValueError):
                key = b""
            if not _NAME.fullmatch(name) or len(key) != KEY_BYTES or name in keys:
                raise ConfigurationError(
                    f"Key {number} of {VARIABLE} must be a name, a colon and 32 bytes in base64,"
                    " and each name comes once. `openssl rand -base64 32` makes such bytes."
                )
            keys[name] = key
        return cls(keys)

    def seal(self, data: bytes) -> bytes:
        name, nonce = self._newest.encode(), os.urandom(_NONCE_BYTES)
        sealed = self._keys[self._newest].encrypt(nonce, data, None)
        return b"".join((bytes([len(name)]), name, nonce, sealed))

    def open(self, data: bytes) -> bytes:
        """Opens sealed data.

        Raises:
            CannotOpen: its key is not among the keys, or it is not what was sealed.
        """
        end = 1 + data[0] if data else 0
        name = data[1:end].decode("ascii", "replace")
        key = self._keys.get(name)
        if key is None:
            raise CannotOpen(
                f"Stored data is encrypted with the key {name[:40]!r}, which this server does not"
                f" have: add it to {VARIABLE}, behind the newest one."
            )
        nonce, sealed = data[end : end + _NONCE_BYTES], data[end + _NONCE_BYTES :]
        try:
            return key.decrypt(nonce, sealed, None)
        except (InvalidTag, ValueError):
            raise CannotOpen(
                f"Stored data does not fit its key {name[:40]!r}: the data was changed, or"
                f" {VARIABLE} has another key under that name."
            ) from None

    def seal_fields(self, fields: Mapping[str, bytes]) -> dict[str, bytes]:
        return {
            name: b"%b%b%b" % (_TEXT, base64.b64encode(self.seal(each)), b'"')
            for name, each in fields.items()
        }

    def open_fields(self, fields: Mapping[str, bytes]) -> dict[str, bytes]:
        """Opens the values that are sealed, and leaves the others. Raises as `open`."""
        return {name: self._opened(each) for name, each in fields.items()}

    def _opened(self, each: bytes) -> bytes:
        if not each.startswith(_TEXT):
            return each
        try:
            data = base64.b64decode(orjson.loads(each)[len(_TEXT) - 1 :], validate=True)
        except (binascii.Error, ValueError):
            return each  # a text of a client that begins so, stored by a server without keys
        return self.open(data)
