"""Which methods of which actors must not be executed twice.

It says the same as the declarations `repeatable` and `long_poll` of the actors' classes, for those
who call an actor and must not load its class.
"""

from __future__ import annotations

from actors.calls.names import is_inspector, is_registry

REGISTRY_ONCE: frozenset[str] = frozenset()
RUN_ONCE = frozenset({"prepare"})
INSPECTOR_ONCE = frozenset({"prepare"})


def may_be_repeated(actor: str, method: str) -> bool:
    """Whether a method may be executed again when nobody knows whether it was.

    Args:
        actor: the actor's name.
    """
    if is_registry(actor):
        return method not in REGISTRY_ONCE
    return method not in (INSPECTOR_ONCE if is_inspector(actor) else RUN_ONCE)
