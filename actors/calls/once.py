"""The methods of each kind of actor that must not be executed twice.

The table repeats the declarations `repeatable` and `long_poll` of the actors' classes, for callers
that must not load these classes.
"""

from __future__ import annotations

from actors.calls.names import is_inspector, is_registry

REGISTRY_ONCE: frozenset[str] = frozenset()
RUN_ONCE = frozenset({"prepare"})
INSPECTOR_ONCE = frozenset({"prepare"})


def may_be_repeated(actor: str, method: str) -> bool:
    """Whether a method may be called again after its answer was lost.

    Args:
        actor: the actor's name.
    """
    if is_registry(actor):
        return method not in REGISTRY_ONCE
    return method not in (INSPECTOR_ONCE if is_inspector(actor) else RUN_ONCE)
