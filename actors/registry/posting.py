"""One POST to somewhere in the world: where it may go, and what its answer means.

The address is judged where the connection is made. A name is resolved once, its addresses are
looked at, and the connection goes to one of those: a name that means something else a moment later
(DNS rebinding) leads nowhere else. Redirects are not followed, proxies of the environment not used.

Imported when the first webhook is due: httpx is a twentieth of a second of every restart.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import cast

import httpcore
import httpx

from greenroom.core.addresses import blocked

AGAIN = frozenset({408, 425, 429})
"""Statuses below 500 that say "later"."""

MAX_ADDRESSES = 4

Resolve = Callable[[str, int], Awaitable[list[str]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What came of an attempt.

    Attributes:
        again: trying once more may help.
        said: the status, or what went wrong, in a few words.
    """

    delivered: bool
    again: bool
    said: str


class AddressRefused(Exception):
    """The receiver's name leads to this machine or a private network."""


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for _, _, _, _, address in found))


def _any_network() -> httpcore.AsyncNetworkBackend:
    # httpcore has another class of this name for where anyio is missing, and is typed for that.
    return cast("httpcore.AsyncNetworkBackend", httpcore.AnyIOBackend())


class PublicNetwork(httpcore.AsyncNetworkBackend):
    """Connects to public addresses only.

    Args:
        resolve: names to addresses; a test gives its own.
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
        # One private address is enough: who answers so is not to be trusted with the others.
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
    """httpx over a network of our choice, for which it has no parameter."""

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
    """A client for webhooks; blocks for some milliseconds, reading certificates."""
    if network is None:
        network = _any_network() if allow_private else PublicNetwork()
    return httpx.AsyncClient(
        transport=_Transport(network, max_connections),
        headers={"user-agent": "greenroom", "content-type": "application/json"},
        follow_redirects=False,
        trust_env=False,
        timeout=None,  # `post` bounds the whole
    )


async def post(client: httpx.AsyncClient, url: str, body: bytes, *, timeout_s: float) -> Answer:
    """Posts JSON; the answer's body is not read."""
    try:
        async with asyncio.timeout(timeout_s):
            async with client.stream("POST", url, content=body) as answer:
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
