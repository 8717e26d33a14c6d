"""Libraries that take long to import, for modules of which few tests use them.

Each process of `make test` imports all modules, to collect their tests.
"""

from __future__ import annotations

import importlib
from typing import Any


class Later:
    """A module that is imported when something of it is asked for.

        if TYPE_CHECKING:
            import openai
        else:
            openai = Later("openai")

    Args:
        name: the name of the module.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):  # pytest looks whether what a module has is a double
            raise AttributeError(attribute)
        return getattr(importlib.import_module(self._name), attribute)
