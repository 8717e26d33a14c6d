"""What can go wrong, in the words of the domain.

    GreenroomError                 has a message for people and a ``status_hint``
    ├─ InvalidRequest       422    the request cannot mean anything; the message says what to change
    ├─ BadRequest           400    well-formed, but contradicts itself or the graph
    │   └─ ForeignThread           code of a run or a question reaches for another thread
    ├─ NotFound             404
    ├─ Conflict             409    the thread is taken, or the id exists
    ├─ TooLarge             413
    ├─ TooManyRequests      429    carries ``retry_after_s``
    ├─ Unavailable          503    a part answered that it cannot do this now
    │   ├─ DatabaseUnavailable
    │   └─ Restarting              nothing was done; the caller asks again by itself
    ├─ Unreachable          503    a process was not reached; perhaps it did what was asked
    ├─ Uncertain            503    the same, of something that must not be done twice
    ├─ Unanswered           503    a graph's code hangs or ends its process; asking again does not
    │                              help, so nothing of ours does
    ├─ ConfigurationError          said at start, before anything serves
    └─ Fenced                      a signal, not a failure: another attempt is the current one

The core knows no HTTP: ``status_hint`` is a hint to the one handler at the edge. Every constructor
argument goes to ``super().__init__``, since an exception that does not survive pickling does not
survive a Ray call either.
"""

from __future__ import annotations


class GreenroomError(Exception):
    """Base of everything that Greenroom raises on purpose; ``str()`` is a sentence for people."""

    status_hint: int = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)

    @property
    def message(self) -> str:
        return str(self.args[0])

    def headers(self) -> dict[str, str]:
        """Headers that an HTTP answer made of this error should carry."""
        return {}


class InvalidRequest(GreenroomError):
    status_hint = 422


class BadRequest(GreenroomError):
    status_hint = 400


class ForeignThread(BadRequest):
    pass


class NotFound(GreenroomError):
    status_hint = 404


class Conflict(GreenroomError):
    status_hint = 409


class TooLarge(GreenroomError):
    status_hint = 413


class TooManyRequests(GreenroomError):
    status_hint = 429

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        Exception.__init__(self, message, retry_after_s)

    def __str__(self) -> str:
        return self.message

    def headers(self) -> dict[str, str]:
        return {"retry-after": str(self.args[1])}


class Unavailable(GreenroomError):
    status_hint = 503

    def headers(self) -> dict[str, str]:
        return {"retry-after": "1"}


class DatabaseUnavailable(Unavailable):
    pass


class Restarting(Unavailable):
    """The part is being started or replaced, and has done nothing: asking again is right."""


class Unreachable(GreenroomError):
    """A process of the server was not reached. Unlike `Unavailable` this is no answer: what was
    asked may have been executed."""

    status_hint = 503

    def headers(self) -> dict[str, str]:
        return {"retry-after": "1"}


class Uncertain(GreenroomError):
    """The connection was lost during a call that must not be executed twice: so it is not asked
    again, and nobody knows whether it was executed."""

    status_hint = 503

    def headers(self) -> dict[str, str]:
        return {"retry-after": "1"}


class Unanswered(GreenroomError):
    """User code did not let a question be answered; the sentence names the graph."""

    status_hint = 503


class ConfigurationError(GreenroomError):
    pass


class Fenced(GreenroomError):
    """Another attempt owns the run now; whoever sees this stops and writes nothing more."""
