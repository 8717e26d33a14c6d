"""Loads the handlers that ``auth`` of `langgraph.json`, or ``GREENROOM_AUTH``, names."""

from __future__ import annotations

from langgraph_sdk import Auth

from greenroom.auth.authenticator import HandlerAuthenticator
from greenroom.auth.calls import Apart, Calls, Inline
from greenroom.auth.ready import ReadyMade, ReadySettings
from greenroom.core.access import AuthSpec
from greenroom.core.errors import ConfigurationError
from greenroom.graphs.configuration import Configuration
from greenroom.graphs.importing import load_target


def load_authenticator(
    configuration: Configuration, spec: AuthSpec, *, within_s: float, settings: ReadySettings
) -> HandlerAuthenticator:
    """Imports the handlers; blocks meanwhile.

    Args:
        within_s: the deadline of one call of a handler, in seconds.
        settings: for handlers of ours.

    Raises:
        ConfigurationError: the import failed, or the target is no `Auth` that can be used; the
            message names the target and the remedy.
    """
    auth = load_auth(configuration, spec)
    calls: Calls = Apart(within_s)
    if isinstance(auth, ReadyMade):
        auth.open(settings)
        calls = Inline()
    return HandlerAuthenticator(auth, spec, calls)


def load_auth(configuration: Configuration, spec: AuthSpec) -> Auth:
    """Imports the `Auth` object. Raises ConfigurationError as `load_authenticator` does."""
    found = load_target(spec, configuration)
    if not isinstance(found, Auth):
        raise ConfigurationError(
            f"{spec.subject}: {spec.target} is a {type(found).__name__}, not an Auth. Name an"
            " object that 'langgraph_sdk.Auth()' has made."
        )
    return found
