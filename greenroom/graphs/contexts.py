"""Fits a run's context to the schema of a graph.

A client may send keys that the schema does not have: the API treats ``configurable`` and
``context`` as one, and other graphs of an application know other keys. Such keys are dropped, as by
LangGraph's server. A dataclass would raise an error for them, and so would a model that forbids
other keys.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Mapping
from typing import Any, cast

from pydantic import AliasChoices, AliasPath, BaseModel


def fitting(schema: Any, context: Any) -> Any:
    """Returns a context with only the keys that the schema knows.

    An empty context is None, as in process without one, unless the schema has values of its own: a
    dataclass or a pydantic model is made with its defaults.

    Args:
        schema: a dataclass, a pydantic model, a ``TypedDict``, or None; any other schema accepts
            all keys.
        context: the run's context; a value that is not a mapping is returned unchanged.

    Raises:
        TypeError: the context lacks a key that the dataclass needs; the message names it.
    """
    if not isinstance(context, Mapping):
        return context
    given = dict(cast(Mapping[str, Any], context))
    if not given and not _is_model(schema) and not dataclasses.is_dataclass(schema):
        return None
    known = _keys(schema)
    kept = given if known is None else {key: given[key] for key in given if key in known}
    if dataclasses.is_dataclass(schema):
        missing = [name for name in _required(schema) if name not in kept]
        if missing:
            raise TypeError(
                f"The run's context lacks {', '.join(map(repr, missing))}, which"
                f" {getattr(schema, '__name__', schema)} needs. Send it in 'context'."
            )
    return kept


def made(schema: Any, context: Any) -> Any:
    """Returns a context as an instance of its schema, for a dataclass or a pydantic model."""
    kept: Any = fitting(schema, context)
    makes = _is_model(schema) or dataclasses.is_dataclass(schema)
    return cast(Any, schema)(**kept) if makes and isinstance(kept, dict) else kept


def _keys(schema: Any) -> set[str] | None:
    """Returns the keys that a schema knows, or None for one that may know any."""
    if _is_model(schema):
        model = cast("type[BaseModel]", schema)
        if model.model_config.get("extra") == "allow":
            return None
        return set(_names_of(model))
    if dataclasses.is_dataclass(schema):
        parameters = inspect.signature(cast(Any, schema)).parameters.values()
        if any(each.kind is each.VAR_KEYWORD for each in parameters):
            return None
        return {each.name for each in parameters}
    required = getattr(schema, "__required_keys__", None)
    if isinstance(required, frozenset):  # a TypedDict
        return {*cast("frozenset[str]", required), *schema.__optional_keys__}
    return None


def _names_of(model: type[BaseModel]) -> Iterable[str]:
    for name, field in model.model_fields.items():
        yield name
        for alias in (field.alias, field.validation_alias):
            choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
            for choice in choices:
                first = choice.path[0] if isinstance(choice, AliasPath) else choice
                if isinstance(first, str):
                    yield first


def _required(schema: Any) -> list[str]:
    return [
        each.name
        for each in inspect.signature(schema).parameters.values()
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]


def _is_model(schema: Any) -> bool:
    return inspect.isclass(schema) and issubclass(schema, BaseModel)
