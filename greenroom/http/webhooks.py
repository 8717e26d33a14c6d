"""Checks the webhook URL of a run (platform API, section 7).

The registry calls the URL later, and then checks the addresses that its host name resolves to.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from greenroom.core.addresses import blocked, is_loopback
from greenroom.core.errors import InvalidRequest
from greenroom.core.webhook_rules import UrlPolicy

_LOOPBACK = ("localhost", "localhost.localdomain", "ip6-localhost")
_PORTS = {"http": 80, "https": 443}


def checked(url: str, policy: UrlPolicy, *, allow_private: bool) -> str:
    """Checks a webhook's URL and returns it. Host names are not resolved here.

    Args:
        policy: the URLs that the configuration allows.
        allow_private: accept addresses of this machine and of private networks.

    Raises:
        InvalidRequest: ``url`` is no http(s) URL, the policy does not allow it, or it names this
            machine or a private network.
    """
    if len(url) > policy.max_length:
        raise InvalidRequest(f"Webhook URL too long: at most {policy.max_length} characters")
    if not url.isprintable():
        raise InvalidRequest("Invalid webhook: must be a URL of printable characters")
    if url.startswith("/") and not url.startswith("//"):
        if not policy.loopback:
            raise InvalidRequest(
                "Loopback webhooks (relative URLs and localhost) are disabled by default. Set"
                " 'webhooks.url.disable_loopback' of langgraph.json to false to allow them."
            )
        if "\\" in url:
            raise InvalidRequest("Invalid webhook: a path must have no backslash")
        return url
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError as error:
        raise InvalidRequest(f"Invalid webhook: {error}") from None
    if parts.scheme and parts.scheme not in _PORTS:
        raise InvalidRequest(f"Webhook host blocked: scheme '{parts.scheme}' not allowed")
    if not host or not parts.scheme:
        raise InvalidRequest(f"Invalid webhook hostname '{host}'")
    if not allow_private:
        _refuse_private(host, loopback=policy.loopback)
    if policy.require_https and parts.scheme != "https":
        raise InvalidRequest("Webhook must use https")
    if not _is_allowed(host, policy):
        raise InvalidRequest("Webhook domain not allowed")
    port = port if port is not None else _PORTS[parts.scheme]
    if policy.allowed_ports is not None and port not in policy.allowed_ports:
        raise InvalidRequest(f"Webhook port {port} not allowed")
    return url


def _is_allowed(host: str, policy: UrlPolicy) -> bool:
    if policy.allowed_domains is None:
        return True
    name = f"[{host}]" if ":" in host else host
    return any(
        # "*.example.com" is not "example.com" itself.
        name.endswith(allowed[1:]) if allowed.startswith("*.") else name == allowed
        for allowed in policy.allowed_domains
    )


def _refuse_private(host: str, *, loopback: bool) -> None:
    if host in _LOOPBACK or host.endswith(".localhost"):
        if loopback:
            return
        raise InvalidRequest(f"Webhook host blocked: loopback host '{host}'")
    if loopback and is_loopback(host):
        return
    try:
        why = blocked(host)
    except ValueError:
        if host.replace(".", "").isdigit() or host.startswith("0x"):
            # 2130706433 and 127.1 are 127.0.0.1 to a resolver, though not to this module.
            raise InvalidRequest(f"Invalid webhook hostname '{host}'") from None
        return
    if why is not None:
        raise InvalidRequest(f"Webhook host blocked: {why} IP range")
