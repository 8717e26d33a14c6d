"""Decides whether a network address is public, so that a server may call it for a client.

A server stands inside a network that its clients may not reach: databases, metadata services, the
server itself. An address counts as public only if the IPv4 address that it embeds (mapped into
IPv6, NAT64, 6to4) is public too, since a gateway on the way would unpack that address.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_NAT64 = ip_network("64:ff9b::/96")
_COMPATIBLE = ip_network("::/96")


def blocked(address: str) -> str | None:
    """Returns the reason why an address is not public.

    Args:
        address: an IPv4 or IPv6 address; a zone id (``%eth0``) is ignored.

    Returns:
        ``loopback`` or ``private``; None if the address is public.

    Raises:
        ValueError: ``address`` is not an IP address.
    """
    parsed = ip_address(address.partition("%")[0])
    inner = _embedded(parsed)
    if parsed.is_loopback or (inner is not None and inner.is_loopback):
        return "loopback"
    if inner is not None and isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = inner  # a mapped address is another notation of the IPv4 address
    if not _is_public(parsed) or (inner is not None and not _is_public(inner)):
        return "private"
    return None


def is_loopback(host: str) -> bool:
    """Whether a host, as a URL or a ``Host`` header has it, is this machine for every resolver."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    return address.is_global and not address.is_multicast


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64 or address in _COMPATIBLE:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
