"""The checks before a start; each failure is one sentence that says what to change."""

from __future__ import annotations

import asyncio
import errno
import socket

from greenroom.core.errors import ConfigurationError, GreenroomError

LEAST_FILES = 1024
"""The open files below which a server is not started."""


def check_open_files(limit: int) -> None:
    """Raises ConfigurationError when a server cannot do with so many open files."""
    if limit < LEAST_FILES:
        raise ConfigurationError(
            f"A server needs {LEAST_FILES} open files, and this process may have {limit}: raise the"
            " limit, for example with 'ulimit -n 8192', 'LimitNOFILE=8192' of a systemd unit or"
            " '--ulimit nofile=8192' of a container."
        )


def check_port(host: str, port: int) -> None:
    """Checks that the server can listen on an address.

    Raises:
        ConfigurationError: the host is not an address of this machine, or the port is in use.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # Connections of the last server that are still closing do not make a port taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except socket.gaierror:
        raise ConfigurationError(
            f"{host!r} is no address of this machine; name one with --host."
        ) from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigurationError(
                f"Port {port} of {host} is in use; choose another, for example --port {port + 1}."
            ) from None
        raise ConfigurationError(
            f"The server cannot listen on {host}:{port} ({error.strerror});"
            " choose another --host or --port."
        ) from None


def check_database(url: str) -> None:
    """Checks that the database can be reached and used.

    Raises:
        ConfigurationError: the database is not suitable, or the URL is wrong.
        DatabaseUnavailable: the database does not answer.
    """
    from greenroom.persistence import database  # only whoever brings one pays for the import

    try:
        asyncio.run(database.check(url))
    except GreenroomError as error:
        raise type(error)(
            f"{error} Check --database-url (or GREENROOM_DATABASE_URL), or leave it out to use an"
            " embedded database."
        ) from None
