"""Describes exceptions of user code with a name and a message of bounded length.

A graph may raise any exception: ``SystemExit`` (from a command line parser), an exception whose
``__str__`` raises, one with a message of 10 MB. The functions here never fail because of it.
"""

from __future__ import annotations

MAX_MESSAGE = 16_384
"""The most characters of a message; records, events and checkpoints contain it."""

MAX_NAME = 200


class Escaped(Exception):
    """Wraps a ``BaseException`` that is not an ``Exception``, such as ``SystemExit``.

    ``asyncio`` stops its whole loop for some of these, and ``except Exception`` catches none of
    them, so one run would end the others. `greenroom.graphs.containment` wraps them at the calls
    into user code.

    Attributes:
        original: the wrapped exception.
    """

    def __init__(self, original: BaseException) -> None:
        super().__init__(original)
        self.original = original

    def __str__(self) -> str:
        return message_of(self.original)

    def __repr__(self) -> str:
        return representation(self.original)

    def __reduce__(self) -> tuple[type[Exception], tuple[str]]:
        # A user's exception may not survive pickling, and a Ray call pickles.
        return RuntimeError, (f"{name_of(self)}: {self}",)


def name_of(error: BaseException) -> str:
    """Returns the name of an exception's class; an `Escaped` gives the original's."""
    if isinstance(error, Escaped):
        error = error.original
    return type(error).__name__[:MAX_NAME]


def message_of(error: BaseException) -> str:
    """Returns an exception's message, bounded; a substitute when its ``__str__`` raises."""
    if isinstance(error, Escaped):
        error = error.original
    try:
        text = str(error)
        if not text and error.__cause__ is not None:
            # A wrapper says nothing itself: `StopIteration` of a node comes as such a RuntimeError.
            text = f"{name_of(error.__cause__)}: {error.__cause__}"
        return _bounded(text)
    except BaseException as second:  # noqa: BLE001 - `__str__` is user code and may raise SystemExit
        return f"<{name_of(error)}: {type(second).__name__[:MAX_NAME]} while its message was read>"


def representation(error: BaseException) -> str:
    """Returns an exception's ``repr``, bounded; its class name when ``__repr__`` raises."""
    if isinstance(error, Escaped):
        error = error.original
    try:
        return _bounded(repr(error))
    except BaseException:  # noqa: BLE001 - as above
        return f"{name_of(error)}(...)"


def told(error: BaseException) -> dict[str, str]:
    """Returns an exception as the API shows it: ``{"error", "message"}``."""
    return {"error": name_of(error), "message": message_of(error)}


def _bounded(text: str) -> str:
    if len(text) <= MAX_MESSAGE:
        return text
    return f"{text[:MAX_MESSAGE]}... ({len(text)} characters)"
