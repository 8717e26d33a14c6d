"""What user code raises, told in words that are always there and never too long.

A graph may raise anything: ``SystemExit`` (a command line parser does), an exception whose
``__str__`` raises, one with a message of 10 MB. Whoever tells of it must not fail because of it.
"""

from __future__ import annotations

MAX_MESSAGE = 16_384
"""Characters of a message that are told; it goes into records, events and checkpoints."""

MAX_NAME = 200


class Escaped(Exception):
    """Stands for what is raised and is no ``Exception``, such as ``SystemExit``.

    ``asyncio`` stops its whole loop for some of these, and ``except Exception`` lets all of them
    pass: raised in one run, they would end the others. Where user code begins, they become this
    (`greenroom.graphs.containment`).

    Attributes:
        original: what was raised.
    """

    def __init__(self, original: BaseException) -> None:
        super().__init__(original)
        self.original = original

    def __str__(self) -> str:
        return message_of(self.original)

    def __repr__(self) -> str:
        return representation(self.original)

    def __reduce__(self) -> tuple[type[Exception], tuple[str]]:
        # What user code has raised need not survive pickling, and a Ray call pickles.
        return RuntimeError, (f"{name_of(self)}: {self}",)


def name_of(error: BaseException) -> str:
    """The name of its class."""
    if isinstance(error, Escaped):
        error = error.original
    return type(error).__name__[:MAX_NAME]


def message_of(error: BaseException) -> str:
    """Its message, bounded; a sentence in its place when the exception cannot say it."""
    if isinstance(error, Escaped):
        error = error.original
    try:
        return _bounded(str(error))
    except BaseException as second:  # noqa: BLE001 - `__str__` is the user's code, and may exit too
        return f"<{name_of(error)}: {type(second).__name__[:MAX_NAME]} while its message was read>"


def representation(error: BaseException) -> str:
    """Its ``repr``, bounded; its name when there is none."""
    if isinstance(error, Escaped):
        error = error.original
    try:
        return _bounded(repr(error))
    except BaseException:  # noqa: BLE001 - as above
        return f"{name_of(error)}(...)"


def told(error: BaseException) -> dict[str, str]:
    """As the API's clients see it."""
    return {"error": name_of(error), "message": message_of(error)}


def _bounded(text: str) -> str:
    if len(text) <= MAX_MESSAGE:
        return text
    return f"{text[:MAX_MESSAGE]}... ({len(text)} characters)"
