"""The rules of ``webhooks`` in `langgraph.json`: which URLs are called, and with which headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from greenroom.core.errors import ConfigurationError

MAX_URL = 2048
PLACEHOLDER = re.compile(r"\$\{\{\s*env\.(\w+)\s*\}\}")


@dataclass(frozen=True, kw_only=True, slots=True)
class UrlPolicy:
    """The URLs that a run may name as its webhook.

    Attributes:
        require_https: refuse ``http``.
        allowed_domains: hosts, or ``*.example.com`` for those below it; None allows all.
        allowed_ports: ports, those that a scheme implies included; None allows all.
        max_length: characters.
        loopback: allow this machine, and paths of this server (relative URLs).
    """

    require_https: bool = False
    allowed_domains: tuple[str, ...] | None = None
    allowed_ports: tuple[int, ...] | None = None
    max_length: int = MAX_URL
    loopback: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class WebhookRules:
    """The section ``webhooks``.

    Attributes:
        policy: the URLs that are called.
        headers: the headers of each webhook; their values may name variables.
    """

    policy: UrlPolicy = field(default_factory=UrlPolicy)
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def variables(self) -> frozenset[str]:
        """The names of the variables in the headers' values."""
        return frozenset(
            name for text in self.headers.values() for name in PLACEHOLDER.findall(text)
        )

    def filled(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Returns the headers with the values of their variables.

        Raises:
            ConfigurationError: a variable does not exist, or a value cannot be a header's.
        """
        found: dict[str, str] = {}
        for name, text in self.headers.items():
            for needed in PLACEHOLDER.findall(text):
                if needed not in environment:
                    raise ConfigurationError(
                        f"'webhooks.headers.{name}' names the variable {needed}, which is not set."
                    )
            # With the pattern's group there are names at every second place.
            parts = PLACEHOLDER.split(text)
            parts[1::2] = [environment[needed] for needed in parts[1::2]]
            value = "".join(parts)
            if not (value.isascii() and value.isprintable()):
                # Without the value: it is a secret.
                raise ConfigurationError(
                    f"'webhooks.headers.{name}' must be of printable ASCII characters, also what"
                    " its variables hold."
                )
            found[name] = value
        return found
