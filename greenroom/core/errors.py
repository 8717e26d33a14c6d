"""The errors of the domain.

    GreenroomError                 has a message for people and a ``status_hint``
    ├─ InvalidRequest       422    the request is malformed; the message names the correction
    ├─ BadRequest           400    well-formed, but contradicts itself or the graph
    │   └─ ForeignThread           code of a run or a question accesses another thread
    ├─ Refused              401, 403, or what a handler of ``auth`` says
    ├─ NotFound             404
    ├─ Conflict             409    the thread is taken, or the id exists
    │   └─ NotAwaited              the thread does not wait for what a run was to answer
    ├─ AssistantChanged     503    the assistant of a run has changed since it was read; nothing was
    │                              executed, and the caller reads it again
    ├─ TooSlow              408    the body of the request does not go on
    ├─ TooLarge             413
    ├─ UnsupportedMediaType 415
    ├─ TooManyRequests      429    carries ``retry_after_s``
    ├─ Unavailable          503    a component answered that it cannot serve the request now
    │   ├─ DatabaseUnavailable
    │   └─ Restarting              nothing was executed; the caller retries automatically
    ├─ Unreachable          503    a process gave no answer; the request may have been executed
    ├─ Uncertain            503    like Unreachable, for a request that must not be repeated
    ├─ Unanswered           503    a graph's code hangs or ends its process; a retry does not help,
    │                              so the server does not retry
    ├─ ConfigurationError          raised at start, before the server serves
    └─ Fenced                      a signal, not a failure: another attempt is the current one

The core knows no HTTP: ``status_hint`` is a hint to the one handler at the edge. Every constructor
argument goes to ``super().__init__``, since an exception must survive pickling to survive a Ray
call.
"""

from __future__ import annotations

from collections.abc import Mapping

RUN_NOT_FOUND = "Run not found"
THREAD_OR_ASSISTANT_NOT_FOUND = "Thread or assistant not found."
"""Messages of `NotFound` in the reference server's words; clients compare them."""


class GreenroomError(Exception):
    """Base of all errors that Greenroom raises on purpose; ``str()`` is a sentence for people."""

    status_hint: int = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)

    @property
    def message(self) -> str:
        return str(self.args[0])

    def headers(self) -> dict[str, str]:
        """Returns the headers that the HTTP answer for this error should carry."""
        return {}


class InvalidRequest(GreenroomError):
    status_hint = 422


class BadRequest(GreenroomError):
    status_hint = 400


class ForeignThread(BadRequest):
    pass


class Refused(GreenroomError):
    """The caller is not let in, or may not do this.

    Args:
        status: the status of the answer. 500 is the fault of a handler of ``auth``; its message is
            for the client all the same.
        headers: of the answer, e.g. ``www-authenticate``.
    """

    def __init__(
        self, message: str, status: int = 403, headers: Mapping[str, str] | None = None
    ) -> None:
        Exception.__init__(self, message, status, dict(headers or {}))
        self.status_hint = status

    def __str__(self) -> str:
        return self.message

    def headers(self) -> dict[str, str]:
        return dict(self.args[2])


class NotFound(GreenroomError):
    status_hint = 404


class Conflict(GreenroomError):
    status_hint = 409


class NotAwaited(Conflict):
    """The thread does not wait for what the run answers; or it waits, and the run answers nothing.
    The run was not admitted."""


class AssistantChanged(GreenroomError):
    """The assistant of a run was changed or deleted after the caller had read it. The run was not
    admitted."""

    status_hint = 503

    def headers(self) -> dict[str, str]:
        return {"retry-after": "1"}


class NotKept(GreenroomError):
    """A value cannot be part of a state, because it would not come back from the database."""

    status_hint = 400


class TooSlow(GreenroomError):
    status_hint = 408

    def headers(self) -> dict[str, str]:
        return {"connection": "close"}


class TooLarge(GreenroomError):
    status_hint = 413


class UnsupportedMediaType(GreenroomError):
    status_hint = 415


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
    """The component is being started or replaced and did nothing, so a retry is safe."""


class Unreachable(GreenroomError):
    """A process of the server gave no answer. Unlike with `Unavailable`, it may have executed the
    request."""

    status_hint = 503

    def headers(self) -> dict[str, str]:
        return {"retry-after": "1"}


class Uncertain(GreenroomError):
    """The connection was lost during a call that must not be executed twice. The call is not
    repeated, and it is unknown whether it was executed."""

    status_hint = 503

    def headers(self) -> dict[str, str]:
        return {"retry-after": "1"}


class Unanswered(GreenroomError):
    """User code prevented the answer to a question; the message names the graph."""

    status_hint = 503


class ConfigurationError(GreenroomError):
    pass


class Fenced(GreenroomError):
    """Another attempt owns the run now; the receiver stops and writes nothing more."""
