"""Refuses a start that would let strangers in by accident."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from greenroom.core.addresses import is_loopback
from greenroom.core.errors import ConfigurationError
from greenroom.settings import Settings


def refuse_exposure(settings: Settings, *, authenticates: bool) -> None:
    """Refuses a server that other machines can reach and that asks nobody who they are.

    Args:
        settings: the server's settings.
        authenticates: whether requests are authenticated.

    Raises:
        ConfigurationError: it listens elsewhere than on loopback, and is not said to be open.
    """
    if authenticates or settings.open or is_loopback(settings.host):
        return
    raise ConfigurationError(
        f"The host {settings.host} lets other machines in, and nobody is authenticated: everybody"
        " who reaches the port could read and change everything. Leave --host (GREENROOM_HOST) out"
        " to listen on 127.0.0.1, or say --open (GREENROOM_OPEN=true) if something else keeps"
        " strangers away."
    )


def refuse_password_on_the_command_line(url: str | None) -> None:
    """Refuses a database URL of the command line that has a password.

    Everybody on the machine sees the words of a command in the list of processes.

    Raises:
        ConfigurationError: the URL has a password.
    """
    if url is not None and has_password(url):
        raise ConfigurationError(
            "--database-url has a password, and everybody on this machine sees it in the list of"
            " processes: put the URL into the variable GREENROOM_DATABASE_URL instead."
        )


def has_password(url: str) -> bool:
    """Whether a PostgreSQL URL, or libpq's other form, has a password."""
    if "://" not in url:
        return any(part.startswith("password") for part in url.split())
    parts = urlsplit(url)
    return bool(parts.password) or "password=" in unquote(parts.query)
