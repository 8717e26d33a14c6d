"""API keys: how they are made, stored and found. Only hashes are stored.

A key is ``gr_<id>_<secret>``; the id is public and finds the entry, the secret has 256 random bits,
so one round of SHA-256 is enough. The file is replaced as a whole: a reader sees the old one or the
new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from greenroom.core.errors import ConfigurationError

FILE = "api_keys.json"
PREFIX = "gr"
_ABSENT = hashlib.sha256(b"no key").hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiKey:
    """A key, as it is stored.

    Attributes:
        key_id: the part of the key that is no secret.
        digest: SHA-256 of the whole key, in hexadecimal.
        owner: the identity of its user.
        permissions: ``admin`` reaches everything.
        created_at: ISO 8601; empty for a key of the environment.
    """

    key_id: str
    digest: str
    owner: str
    permissions: tuple[str, ...] = ()
    created_at: str = ""


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys by their ids."""

    by_id: Mapping[str, ApiKey] = field(default_factory=dict[str, ApiKey])

    def find(self, given: str) -> ApiKey | None:
        """Returns the entry of a key; takes as long for a wrong secret as for a right one."""
        parts = given.split("_")
        found = self.by_id.get(parts[1]) if len(parts) == 3 and parts[0] == PREFIX else None
        digest = hashlib.sha256(given.encode("utf-8", "surrogateescape")).hexdigest()
        same = hmac.compare_digest(digest, found.digest if found is not None else _ABSENT)
        return found if same else None


def new_key(owner: str, permissions: tuple[str, ...] = ()) -> tuple[str, ApiKey]:
    """Makes a key; returns it, and its entry."""
    key_id = secrets.token_hex(6)
    key = f"{PREFIX}_{key_id}_{secrets.token_hex(32)}"
    now = datetime.now(UTC).isoformat(timespec="seconds")
    digest = hashlib.sha256(key.encode()).hexdigest()
    return key, ApiKey(
        key_id=key_id, digest=digest, owner=owner, permissions=permissions, created_at=now
    )


def written(key: ApiKey) -> str:
    """Returns an entry as ``GREENROOM_API_KEYS`` has it."""
    return ":".join((key.owner, key.key_id, key.digest, *key.permissions))


def parsed(text: str) -> Keys:
    """Returns the keys of ``GREENROOM_API_KEYS``: entries as of `written`, with spaces or commas
    between them.

    Raises:
        ConfigurationError: one has another form. The message does not repeat it.
    """
    found: dict[str, ApiKey] = {}
    for number, entry in enumerate(text.replace(",", " ").split(), 1):
        # From the right: an owner may have colons.
        parts = entry.split(":")
        at = next((n for n, part in enumerate(parts) if n >= 2 and _is_digest(part)), None)
        if at is None or not ":".join(parts[: at - 1]):
            raise ConfigurationError(
                f"Entry {number} of GREENROOM_API_KEYS must be owner:id:hash, as 'greenroom keys"
                " create OWNER --print' writes it."
            )
        owner, key_id = ":".join(parts[: at - 1]), parts[at - 1]
        found[key_id] = ApiKey(
            key_id=key_id, digest=parts[at], owner=owner, permissions=tuple(parts[at + 1 :])
        )
    return Keys(found)


def _is_digest(part: str) -> bool:
    return len(part) == 64 and all(each in "0123456789abcdef" for each in part)


def read(data_dir: Path) -> Keys:
    """Returns the keys of a data directory; none without a file.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    file = data_dir / FILE
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8-sig"))
        entries = [_entry(each) for each in cast("list[dict[str, Any]]", content["keys"])]
    except FileNotFoundError:
        return Keys()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"The file of API keys {file} cannot be read ({type(error).__name__}). Restore it, or"
            " move it away and create the keys again."
        ) from None
    return Keys({key.key_id: key for key in entries})


def _entry(given: dict[str, Any]) -> ApiKey:
    return ApiKey(**{**given, "permissions": tuple(given["permissions"])})


def add(data_dir: Path, key: ApiKey) -> None:
    """Stores a key. Raises ConfigurationError, OSError."""
    with _locked(data_dir):
        _write(data_dir, {**read(data_dir).by_id, key.key_id: key})


def remove(data_dir: Path, key_id: str) -> ApiKey | None:
    """Deletes a key; returns it, None if there is none. Raises as `add` does."""
    with _locked(data_dir):
        keys = dict(read(data_dir).by_id)
        removed = keys.pop(key_id, None)
        if removed is not None:
            _write(data_dir, keys)
        return removed


def stamp(data_dir: Path) -> tuple[int, int] | None:
    """Returns what changes with each change of the file; None without a file."""
    try:
        status = (data_dir / FILE).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


@contextlib.contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(data_dir / f"{FILE}.lock", "a", opener=_private) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(data_dir: Path, keys: Mapping[str, ApiKey]) -> None:
    new = data_dir / f"{FILE}.{os.getpid()}"
    with open(new, "w", encoding="utf-8", opener=_private) as file:
        json.dump({"keys": [asdict(key) for key in keys.values()]}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    new.replace(data_dir / FILE)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
