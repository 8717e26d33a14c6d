"""Seals what a client gives a run, in the ``kwargs`` of runs and the payloads of crons.

Both have ``input``, ``command``, ``context`` and ``config.configurable``. Of the last three each
value is sealed by itself, so that an assistant's can still be put beside those of a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec
import orjson

from greenroom.sealing import Sealing

_OBJECTS = ("command", "context")
PLAIN = frozenset(
    {
        *("thread_id", "run_id", "graph_id", "assistant_id", "cron_id"),
        *("checkpoint_id", "checkpoint_ns", "checkpoint_map"),
    }
)
"""Keys of ``configurable`` that the server reads in the database."""


def sealed_run(sealing: Sealing, given: Mapping[str, Any]) -> dict[str, Any]:
    """Seals a run's ``kwargs``, or a cron's payload; parts of it may be encoded JSON."""
    sealed = dict(given)
    if not sealing.is_on:
        return sealed
    if given.get("input") is not None:
        sealed |= sealing.seal_values({"input": given["input"]})
    for name in _OBJECTS:
        value: Any = given.get(name)
        if isinstance(value, Mapping):
            sealed[name] = sealing.seal_values(cast("Mapping[str, Any]", value))
    config: Any = given.get("config")
    if isinstance(config, Mapping):
        sealed["config"] = _with_configurable(sealing, cast("Mapping[str, Any]", config))
    return sealed


def opened_run(sealing: Sealing, text: bytes) -> bytes:
    """Opens what `sealed_run` has sealed, in encoded ``kwargs`` or an encoded payload.

    Raises:
        CannotOpen: it is sealed and cannot be opened.
    """
    if not sealing.is_on:
        return text
    fields = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    opened: dict[str, bytes] = {}
    if "input" in fields:
        opened["input"] = sealing.open_whole(bytes(fields["input"]))
    for name in _OBJECTS:
        if name in fields:
            opened[name] = sealing.open_json(bytes(fields[name]))
    if "config" in fields:
        opened["config"] = _opened_config(sealing, bytes(fields["config"]))
    return orjson.dumps(
        {name: orjson.Fragment(opened.get(name, bytes(raw))) for name, raw in fields.items()}
    )


def _with_configurable(sealing: Sealing, config: Mapping[str, Any]) -> dict[str, Any]:
    given: Any = config.get("configurable")
    if not isinstance(given, Mapping):
        return dict(config)
    configurable = cast("Mapping[str, Any]", given)
    own = {name: value for name, value in configurable.items() if name not in PLAIN}
    return {**config, "configurable": {**configurable, **sealing.seal_values(own)}}


def _opened_config(sealing: Sealing, text: bytes) -> bytes:
    try:
        config = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        return text
    if "configurable" not in config:
        return text
    opened = sealing.open_json(bytes(config["configurable"]))
    return orjson.dumps(
        {
            name: orjson.Fragment(opened if name == "configurable" else bytes(raw))
            for name, raw in config.items()
        }
    )
