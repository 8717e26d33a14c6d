"""Loads what encrypts the state of a server: keys of its settings, or handlers of its project."""

from __future__ import annotations

from typing import Any

from greenroom.core.errors import ConfigurationError
from greenroom.graphs.configuration import Configuration
from greenroom.graphs.encryption_section import KEY, EncryptionTarget
from greenroom.graphs.importing import load_target
from greenroom.sealing import Sealing


def load_sealing(configuration: Configuration, keys: str | None) -> Sealing:
    """Returns what seals the state of a server; blocks while handlers are imported.

    Args:
        keys: ``GREENROOM_ENCRYPTION_KEYS``.

    Raises:
        ConfigurationError: the keys are malformed; the import failed, or what it names are no
            handlers; there are both keys and handlers.
    """
    target = configuration.encryption
    if target is None:
        if keys is None:
            return Sealing()
        from greenroom.sealing.aes import AesGcm

        return Sealing(AesGcm.of_text(keys))
    if keys is not None:
        raise ConfigurationError(
            f"GREENROOM_ENCRYPTION_KEYS is set, and so is '{KEY}' in langgraph.json: choose one,"
            " since each stored value is encrypted once."
        )
    return Sealing(_handlers(configuration, target))


def _handlers(configuration: Configuration, target: EncryptionTarget) -> Any:
    from langgraph_sdk import Encryption, EncryptionContext

    from greenroom.langgraph_internals import (
        handlers_of,
        has_context_handler,
    )
    from greenroom.sealing.handlers import Handlers

    found = load_target(target, configuration)
    if not isinstance(found, Encryption):
        raise ConfigurationError(
            f"'{KEY}' is {target.target!r}, which is no Encryption. Name an object that"
            " 'langgraph_sdk.Encryption()' has made."
        )
    pairs = handlers_of(found)
    for kind, (sealing, opening) in pairs.items():
        if (sealing is None) != (opening is None):
            missing = "encrypt" if sealing is None else "decrypt"
            raise ConfigurationError(
                f"The encryption {target.target} has no handler {missing}.{kind}; what the other"
                " one makes could not be read, or be told from what it reads."
            )
    if pairs["blob"][0] is None or pairs["json"][0] is None:
        kind = "blob" if pairs["blob"][0] is None else "json"
        raise ConfigurationError(
            f"The encryption {target.target} has no handlers for {kind}: a part of the state would"
            f" be stored as it is. Add encrypt.{kind} and decrypt.{kind}."
        )
    if has_context_handler(found):
        raise ConfigurationError(
            f"The encryption {target.target} has a context handler, which Greenroom does not"
            " call: data is also read where there is no request. Let the handlers find the key"
            " without it."
        )
    return Handlers(
        seal_blob=pairs["blob"][0],
        open_blob=pairs["blob"][1],
        seal_json=pairs["json"][0],
        open_json=pairs["json"][1],
        context=EncryptionContext,
    )
