"""Everything private of LangGraph that Greenroom uses, in one place.

Nothing else imports a private module or name of LangGraph; `tests/test_layers.py` looks for that.
LangGraph may change or drop each name in any release, also in a patch. For each there is a test in
`tests/graphs/test_langgraph_internals.py` that says what breaks then.
"""
# What is private has no stubs, and not all of its types.
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from langgraph._internal import _future
from langgraph._internal._constants import (
    # The key in `configurable` under which a saver finds whether the execution waits for its
    # checkpoints (`persistence.checkpoints`).
    CONFIG_KEY_DURABILITY,
    # The key in `configurable` with which models stream blocks of content instead of chunks, as in
    # `astream_events(version="v3")` (`graphs.execution`).
    CONFIG_KEY_STREAM_MESSAGES_V2,
    # The key in `configurable` with which LangGraph refuses an answer to an interrupt that does
    # not wait, before it writes anything (`graphs.instructions`).
    CONFIG_KEY_STRICT_RESUME,
    # The node name under which `update_state` takes values for the input channels, and leaves alone
    # what is next (`graphs.taking`).
    INPUT,
    # The task id of writes that a command makes, before there is a task (`graphs.resume`).
    NULL_TASK_ID,
    # The channel of an answer to an interrupt: it is sent again, not compared (`graphs.resume`).
    RESUME,
    # The channel of `Send`s (`graphs.taking`).
    TASKS,
)

# Makes the schema of a state from its channels, as LangGraph does for input and output
# (`graphs.state`).
from langgraph._internal._pydantic import create_model

# What a channel without a value is made from (`graphs.input_check`).
from langgraph._internal._typing import MISSING

# What LangGraph allows to be read back, and how it encodes a value that msgpack does not know
# (`persistence.serializing`).
from langgraph.checkpoint.serde._msgpack import STRICT_MSGPACK_ENABLED
from langgraph.checkpoint.serde.jsonplus import (
    EXT_CONSTRUCTOR_KW_ARGS,
    EXT_CONSTRUCTOR_POS_ARGS,
    EXT_CONSTRUCTOR_SINGLE_ARG,
    EXT_DELTA_SNAPSHOT,
    EXT_PYDANTIC_V2,
    _msgpack_default,  # pyright: ignore[reportPrivateUsage]
    _option,  # pyright: ignore[reportPrivateUsage]
    # Of what it warns when it is read, by class: of a tuple it need not.
    _warned_unregistered_types,  # pyright: ignore[reportPrivateUsage]
)

# A value of a `DeltaChannel`. LangGraph's saver stores it as a blob, however plain it is, and
# leaves a mark in the checkpoint; so does ours (`persistence.checkpoints`).
from langgraph.checkpoint.serde.types import (
    _DeltaSnapshot,  # pyright: ignore[reportPrivateUsage]
)

# Decides whether a run stops at a breakpoint; a second attempt asks whether the first one stood at
# one (`graphs.resume`).
from langgraph.pregel._algo import should_interrupt

# The writes of a command, to compare them with those that an earlier attempt has stored
# (`graphs.resume`).
from langgraph.pregel._io import map_command as _map_command

# The tasks of a checkpoint that were done: LangGraph reports them again (`graphs.resume`).
from langgraph.pregel._task_status import read_task_statuses

# Passes the parts of a stream through the transformers of a graph (`graphs.log_events`).
from langgraph.stream._mux import StreamMux
from langgraph.types import Command
from langgraph_sdk import Encryption

# What a graph factory is given as `ServerRuntime`. The classes are private because users must not
# make them; a server does (`graphs.factories`).
from langgraph_sdk.runtime import (
    _ExecutionRuntime,  # pyright: ignore[reportPrivateUsage]
    _ReadRuntime,  # pyright: ignore[reportPrivateUsage]
)

DeltaSnapshot = _DeltaSnapshot
STRICT_MSGPACK: bool = STRICT_MSGPACK_ENABLED
MSGPACK_ARGUMENT: int = EXT_CONSTRUCTOR_SINGLE_ARG
MSGPACK_ARGUMENTS: int = EXT_CONSTRUCTOR_POS_ARGS
MSGPACK_DELTA: int = EXT_DELTA_SNAPSHOT
MSGPACK_MODEL: int = EXT_PYDANTIC_V2
MSGPACK_KEYWORDS: int = EXT_CONSTRUCTOR_KW_ARGS
MSGPACK_OPTION: int = _option
msgpack_default: Callable[[Any], Any] = _msgpack_default
map_command: Callable[[Command[Any]], Iterator[tuple[str, str, Any]]] = _map_command
TUPLE = ("builtins", "tuple")
_warned_unregistered_types.add(TUPLE)
ExecutionRuntime = _ExecutionRuntime
ReadRuntime = _ReadRuntime

__all__ = [
    "CONFIG_KEY_DURABILITY",
    "CONFIG_KEY_STREAM_MESSAGES_V2",
    "CONFIG_KEY_STRICT_RESUME",
    "INPUT",
    "MISSING",
    "MSGPACK_ARGUMENT",
    "MSGPACK_ARGUMENTS",
    "MSGPACK_DELTA",
    "MSGPACK_KEYWORDS",
    "MSGPACK_MODEL",
    "MSGPACK_OPTION",
    "NULL_TASK_ID",
    "RESUME",
    "STRICT_MSGPACK",
    "TASKS",
    "TUPLE",
    "DeltaSnapshot",
    "ExecutionRuntime",
    "ReadRuntime",
    "create_model",
    "handlers_of",
    "has_context_handler",
    "keep_allowlist",
    "make_mux",
    "make_no_eager_tasks",
    "map_command",
    "msgpack_default",
    "read_task_statuses",
    "should_interrupt",
    "taken",
]


def keep_allowlist(copy: Any, graph: Any) -> None:
    """Gives a copy of a graph the types that its schemas allow to be read back, with
    ``LANGGRAPH_STRICT_MSGPACK``: `Pregel.copy` forgets them."""
    copy._serde_allowlist = getattr(graph, "_serde_allowlist", None)


def make_no_eager_tasks() -> None:
    """Has LangGraph make all its tasks with the task factory of their loop.

    From Python 3.12 on LangGraph makes eager tasks past that factory, which then could not contain
    what user code raises (`graphs.containment`).
    """
    setattr(_future, "EAGER_NOT_SUPPORTED", True)  # noqa: B010 - pyright takes it for a constant


def handlers_of(encryption: Encryption) -> dict[str, tuple[Any, Any]]:
    """Returns the handlers that encrypt and decrypt, by the kind of data; None where there is none
    (`graphs.encryption_section`)."""
    return {
        "blob": (
            encryption._blob_encryptor,  # pyright: ignore[reportPrivateUsage]
            encryption._blob_decryptor,  # pyright: ignore[reportPrivateUsage]
        ),
        "json": (encryption.get_json_encryptor(), encryption.get_json_decryptor()),
    }


def has_context_handler(encryption: Encryption) -> bool:
    """Whether an encryption wants to see each request's user (`graphs.encryption_section`)."""
    return encryption._context_handler is not None  # pyright: ignore[reportPrivateUsage]


def make_mux(factories: Sequence[Callable[[tuple[str, ...]], Any]]) -> StreamMux:
    """Returns a mux whose events are taken with `taken` (`graphs.log_events`)."""
    mux = StreamMux(factories=[*factories], is_async=True)
    # Without a reader it would drop its events.
    mux._events._subscribed = True  # pyright: ignore[reportPrivateUsage]
    return mux


def taken(mux: StreamMux) -> Iterator[Any]:
    """Takes the events out of a mux."""
    items = mux._events._items  # pyright: ignore[reportPrivateUsage]
    while items:
        _, event = items.popleft()
        yield event
