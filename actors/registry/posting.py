"""One POST of a webhook: the check of its address, and the meaning of its answer.

The check happens where the connection is made: the name is resolved once, its addresses are
checked, and the connection goes to one of them. So a name that resolves to another address later
(DNS rebinding) has no effect. The client follows no redirects and uses no proxies of the
environment.

This module is imported when the first webhook is due: httpx would add 0.05 s to every restart.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import httpcore
import httpx

from greenroom.core.addresses import blocked

AGAIN = frozenset({408, 425, 429})
"""Statuses below 500 after which a delivery is repeated."""

MAX_ADDRESSES = 4

Resolve = Callable[[str, int], Awaitable[list[str]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The result of one POST.

    Attributes:
        delivered: whether the receiver answered with a 2xx status.
        again: whether another POST may succeed.
        said: the status, or the error in a few words.
    """

    delivered: bool
    again: bool
    said: str


class AddressRefused(Exception):
    """The receiver's address is this machine or in a private network."""


async def resolve(host: str, port: int) -> list[str]:
    """Resolves a host to its distinct addresses.

    Raises:
        OSError, UnicodeError: the host has no address.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for _, _, _, _, address in found))


def _any_network() -> httpcore.AsyncNetworkBackend:
    # httpcore defines a second class of this name for installations without anyio; its types
    # follow that one.
    return cast("httpcore.AsyncNetworkBackend", httpcore.AnyIOBackend())


class PublicNetwork(httpcore.AsyncNetworkBackend):
    """Connects to public addresses only.

    Args:
        resolve: resolves a host and a port to addresses; a parameter for tests.
    """

    def __init__(self, *, resolve: Resolve = resolve) -> None:
        self._resolve = resolve
        self._network = _any_network()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} has no address: {error}") from error
        # One private address suffices: then the name's other addresses are not trusted either.
        for address in addresses:
            if why := blocked(address):
                raise AddressRefused(f"{host} leads to a {why} address")
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses[:MAX_ADDRESSES]:
            try:
                return await self._network.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise AddressRefused("a socket of this machine")

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)


class _Transport(httpx.AsyncHTTPTransport):
    """httpx over a given network backend; httpx has no parameter for it."""

    def __init__(self, network: httpcore.AsyncNetworkBackend, max_connections: int) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_connections=max_connections,
            max_keepalive_connections=0,
            network_backend=network,
        )


def open_client(
    *,
    allow_private: bool,
    max_connections: int,
    network: httpcore.AsyncNetworkBackend | None = None,
) -> httpx.AsyncClient:
    """Returns a client for webhooks. Blocks for some milliseconds to read certificates.

    Args:
        allow_private: whether it may connect to this machine and to private networks.
        max_connections: the limit of concurrent connections.
        network: the network backend; a parameter for tests.
    """
    if network is None:
        network = _any_network() if allow_private else PublicNetwork()
    return httpx.AsyncClient(
        transport=_Transport(network, max_connections),
        headers={"user-agent": "greenroom", "content-type": "application/json"},
        follow_redirects=False,
        trust_env=False,
        timeout=None,  # `post` bounds the whole request
    )


async def post(
    client: httpx.AsyncClient,
    url: str,
    body: bytes,
    *,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Posts JSON; does not read the answer's body. A failure is an `Answer`, not an exception.

    Args:
        client: from `open_client`.
        url: the receiver's URL.
        body: the JSON.
        timeout_s: seconds for the whole request.
        headers: beside those of the client.
    """
    try:
        async with asyncio.timeout(timeout_s):
            async with client.stream("POST", url, content=body, headers=headers) as answer:
                status = answer.status_code
    except TimeoutError:
        return Answer(delivered=False, again=True, said=f"no answer within {timeout_s:g} s")
    except AddressRefused as error:
        return Answer(delivered=False, again=False, said=str(error))
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
        return Answer(delivered=False, again=False, said=f"{type(error).__name__}: {error}")
    except httpx.HTTPError as error:
        return Answer(delivered=False, again=True, said=f"{type(error).__name__}: {error}")
    return Answer(
        delivered=200 <= status < 300, again=status >= 500 or status in AGAIN, said=str(status)
    )
