"""Targets: objects in files and modules, which the configuration names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Target(ABC):
    """An object that the configuration names; `greenroom.graphs.importing` imports it.

    Attributes:
        target: ``./file.py:attribute`` or ``package.module:attribute``.
    """

    target: str

    @property
    @abstractmethod
    def subject(self) -> str:
        """The beginning of a sentence about it."""

    @property
    @abstractmethod
    def key(self) -> str:
        """Its key in the configuration."""

    @property
    def source(self) -> str:
        """The file or module of the target."""
        return self.target.rpartition(":")[0]

    @property
    def attribute(self) -> str:
        """The name of the object within its file or module."""
        return self.target.rpartition(":")[2]
