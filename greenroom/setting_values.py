"""The kinds of values that settings have, with their checks; a message completes "must be ..."."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from greenroom.core.limits import Rate


def _postgres_url(url: str) -> str:
    keywords = "://" not in url and "=" in url  # libpq's other form: "host=... dbname=..."
    if not keywords and not url.startswith(("postgresql://", "postgres://")):
        raise ValueError("a URL that starts with postgresql://")
    return url


def _webhook_secrets(text: str) -> str:
    for secret in text.split():
        try:
            if not secret.startswith("whsec_"):
                raise ValueError
            length = len(base64.b64decode(secret.removeprefix("whsec_"), validate=True))
        except ValueError:
            length = 0
        if not 24 <= length <= 64:
            raise ValueError("'whsec_' and the base64 of 24 to 64 bytes, for each secret")
    return text


WebhookSecrets = Annotated[str, AfterValidator(_webhook_secrets)]
PostgresUrl = Annotated[str, AfterValidator(_postgres_url)]
# Absolute from the start: the processes of a server do not all have the same working directory.
AbsolutePath = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
PositiveS = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _rate(text: str) -> str:
    Rate.parse(text)
    return text


RateText = Annotated[str, AfterValidator(_rate)]
NotNegativeS = Annotated[float, Field(ge=0, allow_inf_nan=False)]
