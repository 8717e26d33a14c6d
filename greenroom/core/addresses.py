"""Which network addresses a server may be told to call by whoever creates a run.

A server stands inside a network that its clients may not reach: databases, metadata services,
itself. An address counts as public only if all that it embeds does (IPv4 mapped into IPv6, NAT64,
6to4), since a gateway on the way would unpack it.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_NAT64 = ip_network("64:ff9b::/96")
_COMPATIBLE = ip_network("::/96")


def blocked(address: str) -> str | None:
    """Why an address is not public, as words: ``loopback`` or ``private``; None if it is public.

    Raises:
        ValueError: it is no IP address.
    """
    parsed = ip_address(address.partition("%")[0])
    inner = _embedded(parsed)
    if parsed.is_loopback or (inner is not None and inner.is_loopback):
        return "loopback"
    if inner is not None and isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = inner  # mapped is only another way to write it
    if not _is_public(parsed) or (inner is not None and not _is_public(inner)):
        return "private"
    return None


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    return address.is_global and not address.is_multicast


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64 or address in _COMPATIBLE:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
