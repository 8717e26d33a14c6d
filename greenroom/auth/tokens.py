"""``greenroom.auth:jwt``: users by the tokens of an OpenID Connect issuer.

The signature, the issuer, the audience, the end and the beginning of a token are checked, with
algorithms that the settings name and not the token.
"""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import urlsplit

import jwt
from langgraph_sdk import Auth

from greenroom.auth.key_sets import KeySet, NoKeys
from greenroom.auth.ready import ADMIN, ReadyMade, ReadySettings
from greenroom.core.errors import ConfigurationError

ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
"""With a public key only: with a shared secret, each of its holders could make tokens."""
LONGEST = 16_384


class JwtTokens(ReadyMade):
    """Authenticates by the settings ``GREENROOM_JWT_*``."""

    _settings: ReadySettings | None = None
    _keys: KeySet | None = None

    def open(self, settings: ReadySettings) -> None:
        for name, value in (("ISSUER", settings.issuer), ("AUDIENCE", settings.audience)):
            if not value:
                raise ConfigurationError(
                    f"'greenroom.auth:jwt' needs GREENROOM_JWT_{name}: the {name.lower()} of the"
                    " tokens that are let in."
                )
        strange = [each for each in settings.algorithms if each not in ALGORITHMS]
        if strange or not settings.algorithms:
            raise ConfigurationError(
                f"GREENROOM_JWT_ALGORITHMS may have {', '.join(ALGORITHMS)}, not"
                f" {', '.join(strange) or 'nothing'}."
            )
        assert settings.issuer is not None
        for url in filter(None, (settings.issuer, settings.jwks_url)):
            place = urlsplit(url)
            here = place.hostname in ("localhost", "127.0.0.1", "::1")
            if place.scheme != "https" and not (place.scheme == "http" and here):
                raise ConfigurationError(
                    f"{url!r} must be an https URL: who can change the answer can make tokens."
                )
        self._settings = settings
        self._keys = KeySet(settings.issuer, settings.jwks_url)

    async def user_of(self, request: Any) -> dict[str, Any]:
        scheme, _, token = (request.headers.get("authorization") or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > LONGEST:
            raise _refusal("Send a token of the issuer as 'authorization: Bearer ...'.", None)
        claims = await self._claims(token)
        assert self._settings is not None
        identity = claims.get(self._settings.identity_claim)
        if not isinstance(identity, str) or not identity:
            raise _refusal(
                f"The token has no claim {self._settings.identity_claim!r}.", "invalid_token"
            )
        name = claims.get("name")
        permissions = _permissions(claims.get(self._settings.permissions_claim))
        return {
            "identity": identity,
            "display_name": name if isinstance(name, str) else identity,
            "permissions": permissions,
            ADMIN: self._settings.admin is not None and self._settings.admin in permissions,
        }

    async def _claims(self, token: str) -> dict[str, Any]:
        settings, keys = self._settings, self._keys
        assert settings is not None
        assert keys is not None
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in settings.algorithms:
                raise _refusal("The token is signed by another algorithm.", "invalid_token")
            key = await keys.find(header.get("kid"))
            if key is None:
                raise _refusal("The token is signed by an unknown key.", "invalid_token")
            return jwt.decode(
                token,
                key,
                algorithms=list(settings.algorithms),
                audience=settings.audience,
                issuer=settings.issuer,
                leeway=settings.leeway_s,
                options={"require": ["exp", "iss", "aud"]},
            )
        except NoKeys:
            raise Auth.exceptions.HTTPException(
                status_code=503,
                detail="The keys of the issuer of tokens cannot be had. Try again in a moment.",
                headers={"retry-after": "10"},
            ) from None
        except jwt.ExpiredSignatureError:
            raise _refusal("The token has expired.", "invalid_token") from None
        except jwt.PyJWTError:
            raise _refusal("The token is not valid.", "invalid_token") from None


def _permissions(claim: Any) -> list[str]:
    if isinstance(claim, str):
        return claim.split()
    values = cast("list[Any]", claim) if isinstance(claim, list) else []
    return [each for each in values if isinstance(each, str)]


def _refusal(sentence: str, error: str | None) -> Exception:
    challenge = 'Bearer realm="greenroom"' + (f', error="{error}"' if error else "")
    return Auth.exceptions.HTTPException(
        status_code=401, detail=sentence, headers={"www-authenticate": challenge}
    )
