"""Checks the webhook URL of a run (platform API, section 7).

The registry calls the URL later, and then checks the addresses that its host name resolves to.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from greenroom.core.addresses import blocked
from greenroom.core.errors import InvalidRequest

_MAX_URL = 2048
_LOOPBACK = ("localhost", "localhost.localdomain", "ip6-localhost")


def checked(url: str, *, allow_private: bool) -> str:
    """Checks a webhook's URL and returns it. Host names are not resolved here.

    Args:
        allow_private: accept addresses of this machine and of private networks.

    Raises:
        InvalidRequest: ``url`` is not an absolute http(s) URL, or names this machine or a private
            network.
    """
    if len(url) > _MAX_URL or not url.isprintable():
        raise InvalidRequest(f"Invalid webhook: must be a URL of at most {_MAX_URL} characters")
    try:
        parts = urlsplit(url)
        host, _ = (parts.hostname or "").rstrip("."), parts.port
    except ValueError as error:
        raise InvalidRequest(f"Invalid webhook: {error}") from None
    if parts.scheme and parts.scheme not in ("http", "https"):
        raise InvalidRequest(f"Webhook host blocked: scheme '{parts.scheme}' not allowed")
    if not host or not parts.scheme:
        raise InvalidRequest(f"Invalid webhook hostname '{host}'")
    if not allow_private:
        _refuse_private(host)
    return url


def _refuse_private(host: str) -> None:
    if host in _LOOPBACK or host.endswith(".localhost"):
        raise InvalidRequest(f"Webhook host blocked: loopback host '{host}'")
    try:
        why = blocked(host)
    except ValueError:
        if host.replace(".", "").isdigit() or host.startswith("0x"):
            # 2130706433 and 127.1 are 127.0.0.1 to a resolver, though not to this module.
            raise InvalidRequest(f"Invalid webhook hostname '{host}'") from None
        return
    if why is not None:
        raise InvalidRequest(f"Webhook host blocked: {why} IP range")
