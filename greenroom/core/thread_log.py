"""The log of a thread: the events of its runs in one order, for clients of event streaming.

A thread's log is no log of its own. It is made of the event logs of the thread's *logged* runs, one
after the other: runs of a thread never overlap. The registry numbers these runs when they begin, or
when they end without having begun, so that the number is stored with the fact. A position in the
thread's log follows from the number, the attempt and the position within the attempt, whoever
computes it:

    52 ......... 32 31 ......... 24 23 ......... 0
    number of the run  attempt        index

So positions and ids are the same on every connection, gateway and restart, and a position is an
integer that JavaScript can hold. Positions grow; they are not dense.

A run's log has the events of both protocols. An event whose name begins with `MARK` is only for
clients of event streaming; those of the modes in `SHARED` are for both; the others are only for
clients of a run. The name carries what a filter looks at, so that no filter parses data:

    @lifecycle|child:1f2e      method and namespace
    @messages:agent            a message of the node ``agent``
    @custom:progress           the channel ``custom:progress``
    @end                       the lifecycle event that ends a run
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from greenroom.core.errors import BadRequest
from greenroom.core.events import Event, first_seq
from greenroom.core.runs import RunStatus

MARK = "@"
RUNNING = "@lifecycle"
MESSAGES = "@messages"
"""The begin of the names of messages, which are streamed token by token."""
_MESSAGE_START = b'{"event":"message-start"'
END = "@end"
"""The name of a run's last event, which says how the run ended; its method is ``lifecycle``."""
INPUT_REQUESTED = "input.requested"
QUESTION = MARK + INPUT_REQUESTED
"""The begin of the names of events that ask a client."""
INPUT_ANSWERED = "input.answered"
INPUT_TAKEN = "input.taken"
"""Something that was said to the run has been taken; clients that do not know it ignore it."""
DROPPED = "log.dropped"
"""The method of the event that tells a client that events it asked for are not kept any more."""
SHARED = frozenset({"values", "updates", "custom", "tasks", "input"})

CHANNELS = (
    *("values", "updates", "messages", "tools", "lifecycle", "input", "checkpoints"),
    *("tasks", "custom"),
)
_CUSTOM = "custom:"
_INDEX_BITS, _ATTEMPT_BITS = 24, 8
_RUN_BITS = _INDEX_BITS + _ATTEMPT_BITS
MAX_POSITION = 2**53 - 1


def event_name(method: str, namespace: Iterable[str] = (), *, detail: str = "") -> str:
    """Returns the name of an event that only clients of event streaming see.

    Args:
        detail: the node of a message or a tool, or the name of a custom event.
    """
    head = f"{MARK}{method}:{detail}" if detail else MARK + method
    return "|".join((head, *namespace))


def is_logged(name: str) -> bool:
    """Returns whether an event of a run's log belongs to the thread's log."""
    return name.startswith(MARK) or name.partition("|")[0] in SHARED


def begins_message(name: str, data: bytes) -> bool:
    """Returns whether an event is the first one of a message."""
    return name.startswith(MESSAGES) and data.startswith(_MESSAGE_START)


def position(number: int, seq: int) -> int:
    """Returns the position in the thread's log.

    Args:
        number: of the run.
        seq: of the event in the run's log.
    """
    attempt, index = seq >> 32, seq & 0xFFFF_FFFF
    # More than that is not expected; the order of a client's events then is that of their arrival.
    attempt, index = min(attempt, (1 << _ATTEMPT_BITS) - 1), min(index, (1 << _INDEX_BITS) - 1)
    return (number << _RUN_BITS) | (attempt << _INDEX_BITS) | index


def place_of(since: int) -> tuple[int, int]:
    """Returns the run's number, and the sequence number in its log, of a position."""
    number, rest = since >> _RUN_BITS, since & ((1 << _RUN_BITS) - 1)
    return number, first_seq(rest >> _INDEX_BITS) + (rest & ((1 << _INDEX_BITS) - 1)) if rest else 0


def end_of(status: RunStatus, error: bytes | None, *, stopped: bool) -> tuple[str, str]:
    """Returns the lifecycle of a run that is over, and its error for clients.

    Args:
        error: JSON, as in `Outcome`.
        stopped: the run waits at an interrupt or a breakpoint.
    """
    match status:
        case RunStatus.ERROR | RunStatus.TIMEOUT:
            told: dict[str, object] = json.loads(error) if error is not None else {}
            return "failed", str(told.get("message") or told.get("error") or status.value)
        case RunStatus.SUCCESS if not stopped:
            return "completed", ""
        case _:
            return "interrupted", ""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogEvent:
    """An event of a thread's log.

    Attributes:
        number: the number of its run in the thread's log.
        run_id: its run.
        event: the event in the run's log.
        method: the protocol's method.
        namespace: the graph that it is about; the root is empty.
        node: the node that it comes from; "" if it does not say so.
        channel: the channel that a client subscribes to.
    """

    number: int
    run_id: str
    event: Event
    method: str = field(init=False)
    namespace: tuple[str, ...] = field(init=False)
    node: str = field(init=False, default="")
    channel: str = field(init=False)

    def __post_init__(self) -> None:
        head, *namespace = self.event.name.removeprefix(MARK).split("|")
        method, _, detail = head.partition(":")
        channel, node = method, detail
        if method == "end":
            method = channel = "lifecycle"
        elif method in (INPUT_REQUESTED, INPUT_ANSWERED):
            channel = "input"
        elif method == "input":
            method = INPUT_TAKEN
        elif method == "custom" and detail:
            channel, node = _CUSTOM + detail, ""
        for name, value in (
            ("method", method),
            ("namespace", tuple(namespace)),
            ("node", node),
            ("channel", channel),
        ):
            object.__setattr__(self, name, value)

    @property
    def seq(self) -> int:
        """The position in the thread's log."""
        return position(self.number, self.event.seq)

    @property
    def is_end(self) -> bool:
        """Whether it ends its run."""
        return self.event.name == END

    @property
    def id(self) -> str:
        """The protocol's ``event_id``, unique within the thread.

        The end of a run has the same id whether its actor has said it or a gateway had to.
        """
        return f"{self.run_id}:{'end' if self.is_end else self.event.seq}"


@dataclass(frozen=True, kw_only=True, slots=True)
class LogPart:
    """A piece of a thread's log.

    Attributes:
        events: in order.
        caught_up: the reader has what there was when it came.
        dropped_to: the reader asked for events that are not kept any more; the position of the
            last one. 0 otherwise.
    """

    events: Sequence[LogEvent] = ()
    caught_up: bool = False
    dropped_to: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class LogFilter:
    """What a client wants of a thread's log.

    Attributes:
        channels: some of `CHANNELS`, or ``custom:<name>``.
        namespaces: prefixes of namespaces; None for all.
        depth: the longest rest of a namespace after its prefix; None for any.
    """

    channels: frozenset[str]
    namespaces: tuple[tuple[str, ...], ...] | None = None
    depth: int | None = None

    def passes(self, event: LogEvent) -> bool:
        """Returns whether the client wants an event."""
        if event.channel not in self.channels and not (
            event.channel.startswith(_CUSTOM) and "custom" in self.channels
        ):
            return False
        if self.namespaces is None:
            return True
        return any(self._below(event.namespace, prefix) for prefix in self.namespaces)

    def _below(self, namespace: tuple[str, ...], prefix: tuple[str, ...]) -> bool:
        if len(prefix) > len(namespace):
            return False
        if self.depth is not None and len(namespace) - len(prefix) > self.depth:
            return False
        pairs = zip(prefix, namespace, strict=False)
        # A prefix without the id of the task means every task of this node.
        return all(
            found == wanted or (":" not in wanted and found.partition(":")[0] == wanted)
            for wanted, found in pairs
        )


_NAMED = re.compile(r"custom:[^|\r\n]{1,255}")


def filter_of(given: dict[str, Any]) -> LogFilter:
    """Checks the filter of a client.

    Args:
        given: ``channels``, ``namespaces`` and ``depth``.

    Raises:
        BadRequest: with a sentence that says what to change.
    """
    channels = _list_of(given.get("channels"))
    if not channels:
        raise BadRequest("channels is required and must be a non-empty array")
    wrong = [str(each)[:80] for each in channels if not _is_channel(each)]
    if wrong:
        raise BadRequest(
            f"channels contains unsupported entries: {', '.join(wrong)}. Allowed:"
            f" {', '.join(CHANNELS)}, or any `custom:<name>`."
        )
    namespaces = _list_of(given.get("namespaces"))
    if given.get("namespaces") is not None and (
        namespaces is None or not all(map(_is_namespace, namespaces))
    ):
        raise BadRequest("namespaces must be an array of arrays of strings")
    depth: Any = given.get("depth")
    if depth is not None and not _is_count(depth):
        raise BadRequest("depth must be a whole number of at least 0")
    return LogFilter(
        channels=frozenset(channels),
        # No namespace is every namespace, as the clients match it.
        namespaces=tuple(map(tuple, namespaces)) if namespaces else None,
        depth=depth,
    )


def since_of(given: dict[str, Any]) -> int:
    """Returns the position after which a client wants the log; 0 for all of it.

    Raises:
        BadRequest: it is no position.
    """
    since: Any = given.get("since")
    if since is None:
        return 0
    if not _is_count(since):
        raise BadRequest("since must be the seq of an event, a whole number of at least 0")
    return since


def _is_channel(value: object) -> bool:
    return isinstance(value, str) and (value in CHANNELS or bool(_NAMED.fullmatch(value)))


def _is_namespace(value: object) -> bool:
    found = _list_of(value)
    return found is not None and all(isinstance(each, str) for each in found)


def _list_of(value: object) -> list[Any] | None:
    return cast("list[Any]", value) if isinstance(value, list) else None


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_POSITION
