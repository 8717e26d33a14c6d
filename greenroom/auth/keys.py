"""``greenroom.auth:api_keys``: users by keys of ours.

A client sends its key in ``x-api-key``, as the SDKs do, or as bearer token.
"""

from __future__ import annotations

import logging
from typing import Any

from langgraph_sdk import Auth

from greenroom.auth import key_file
from greenroom.auth.key_file import Keys
from greenroom.auth.ready import ADMIN, ReadyMade, ReadySettings
from greenroom.core.errors import ConfigurationError

log = logging.getLogger("greenroom.auth")

_CHALLENGE = {"www-authenticate": 'Bearer realm="greenroom"'}


class ApiKeys(ReadyMade):
    """Authenticates by the keys of the data directory and of ``GREENROOM_API_KEYS``."""

    _settings: ReadySettings | None = None
    _given = Keys()
    _file = Keys()
    _stamp: tuple[int, int] | None = None

    def open(self, settings: ReadySettings) -> None:
        self._settings = settings
        self._given = key_file.parsed(settings.api_keys or "")
        self._file = key_file.read(settings.data_dir)
        self._stamp = key_file.stamp(settings.data_dir)
        if not self._given.by_id and not self._file.by_id:
            log.warning(
                "There is no API key yet, so nobody is let in. 'greenroom keys create OWNER' makes"
                " one, also while the server runs."
            )

    async def user_of(self, request: Any) -> dict[str, Any]:
        given = request.headers.get("x-api-key")
        if given is None:
            scheme, _, token = (request.headers.get("authorization") or "").partition(" ")
            given = token.strip() if scheme.lower() == "bearer" else None
        if not given:
            raise Auth.exceptions.HTTPException(
                status_code=401,
                detail="Send an API key in the header x-api-key, or as bearer token.",
                headers=_CHALLENGE,
            )
        key = self._given.find(given) or self._current().find(given)
        if key is None:
            raise Auth.exceptions.HTTPException(
                status_code=401, detail="This API key is not valid.", headers=_CHALLENGE
            )
        return {
            "identity": key.owner,
            "permissions": list(key.permissions),
            "key_id": key.key_id,
            ADMIN: "admin" in key.permissions,
        }

    def _current(self) -> Keys:
        """Returns the keys of the file, read again if it has changed."""
        assert self._settings is not None
        stamp = key_file.stamp(self._settings.data_dir)
        if stamp != self._stamp:
            try:
                self._file = key_file.read(self._settings.data_dir)
            except ConfigurationError as error:
                # A key that was revoked must not stay valid because of a broken file.
                log.error(str(error))
                self._file = Keys()
            self._stamp = stamp
        return self._file
