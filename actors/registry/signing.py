"""Signs webhooks after the Standard Webhooks scheme.

A receiver knows the secret, and computes the signature of the bytes that it got. Several secrets
give as many signatures, of which one has to be right: so a secret is replaced by adding the new
one, telling it to the receivers, and removing the old one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable
from datetime import datetime


def signed_headers(
    secrets: Iterable[str], *, message_id: str, at: datetime, body: bytes
) -> dict[str, str]:
    """Returns the headers of one POST.

    Args:
        secrets: ``whsec_`` and base64, as `greenroom.settings` has checked; none for no signature.
        message_id: the same for every POST of a delivery.
        at: the time of this POST.
        body: the request's body.
    """
    seconds = str(int(at.timestamp()))
    headers = {"webhook-id": message_id, "webhook-timestamp": seconds}
    content = f"{message_id}.{seconds}.".encode() + body
    signatures = [f"v1,{_signature(secret, content)}" for secret in secrets]
    if signatures:
        headers["webhook-signature"] = " ".join(signatures)
    return headers


def _signature(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
