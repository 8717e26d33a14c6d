"""Log lines: a sentence for people, and keys for programs.

``log.info("A run has ended.", extra={"action": "run_ended", "run_id": run_id})`` becomes one JSON
object per line, or, on a terminal, the sentence followed by its keys.

`noting` sets keys for all lines of a task. So every line that is logged during a run carries the
run's ids, also a line of the graph's own code, of a library, or of a thread of one of its nodes.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    # Actors are told what they need; the settings' libraries they need not load.
    from greenroom.settings import LogFormat, LogLevel

_PLAIN_ATTRIBUTES = frozenset(
    {*vars(logging.makeLogRecord({})), "message", "asctime", "color_message", "taskName"}
)
"""The attributes of every record; others come from ``extra``. (uvicorn adds a coloured text.)"""


TRACEBACK_MAX = 32_768
"""The most characters of a traceback in a line; of a longer one the beginning and the end stay, so
that a line fits into a datagram."""

_noted: ContextVar[Mapping[str, Any]] = ContextVar("greenroom_noted", default={})  # noqa: B039


@dataclass(frozen=True, kw_only=True, slots=True)
class LogSettings:
    """The log settings of one process of the server.

    Attributes:
        level, form: as in `configure_logs`.
        file: the file to which lines are appended; None for the process's standard error, which Ray
            keeps in its log directory.
        terminal: the socket of the terminal that also shows errors
            (`greenroom.terminal.errors_of`), or None.
    """

    level: LogLevel = "info"
    form: LogFormat = "auto"
    file: Path | None = None
    terminal: Path | None = None

    def apply(self, **keys: str) -> None:
        """Sets up the log of this process; ``keys`` are added to all its lines."""
        self._apply(keys)
        if self.terminal is not None:
            handler = _ToTerminal(self.terminal)
            handler.addFilter(_Noted(keys))
            handler.setFormatter(PlainFormatter())
            logging.getLogger().addHandler(handler)

    def _apply(self, keys: Mapping[str, str]) -> None:
        if self.file is None:
            configure_logs(self.level, self.form, keys=keys)
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        # Open as long as the process lives. Appended to line by line, so that processes can share.
        stream = self.file.open("a", encoding="utf-8", buffering=1)
        configure_logs(self.level, self.form, stream, keys=keys)


def noting(**keys: Any) -> None:
    """Adds keys to all lines that this task, and each task that it starts from now on, logs."""
    _noted.set({**_noted.get(), **keys})


def configure_logs(
    level: LogLevel,
    form: LogFormat,
    stream: TextIO | None = None,
    *,
    keys: Mapping[str, str] | None = None,
) -> None:
    """Sends the lines of this process to a stream; replaces all earlier handlers.

    Args:
        level: the level of Greenroom's own lines; other libraries log from ``warning`` on.
        form: ``auto`` is plain on a terminal and JSON elsewhere.
        stream: the stream; the default is standard error.
        keys: keys of every line.
    """
    target = stream or sys.stderr
    plain = form == "plain" or (form == "auto" and target.isatty())
    handler = logging.StreamHandler(target)
    handler.addFilter(_Noted(keys or {}))
    handler.setFormatter(PlainFormatter() if plain else JsonFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))
    for name in ("greenroom", "actors"):
        logging.getLogger(name).setLevel(level.upper())


class _Noted(logging.Filter):
    """Adds the noted keys to a line; the line's own keys take precedence."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        super().__init__()
        self._keys = keys

    def filter(self, record: logging.LogRecord) -> bool:
        for key, value in {**self._keys, **_noted.get()}.items():
            if not hasattr(record, key):
                setattr(record, key, value)
        return True


class _ToTerminal(logging.Handler):
    """Sends errors to the server's terminal; drops them if it is gone or too busy."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.ERROR)
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            self._socket.sendto(self.format(record).encode("utf-8", "replace"), self._path)

    def close(self) -> None:
        self._socket.close()
        super().close()


class JsonFormatter(logging.Formatter):
    """One JSON object per line: ``at``, ``level``, ``logger``, ``message``, then the keys."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": _instant(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_keys(record),
        }
        if record.exc_info:
            line["traceback"] = _bounded(self.formatException(record.exc_info))
        # A value that JSON does not know must not cost the line that would have explained it.
        return json.dumps(line, default=str, ensure_ascii=False)


class PlainFormatter(logging.Formatter):
    """``12:03:11 info  A run has ended.  run_id=… action=…``"""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        keys = "".join(f"  {key}={value}" for key, value in _keys(record).items())
        line = f"{clock} {record.levelname.lower():<7} {record.getMessage()}{keys}"
        if record.exc_info:
            line += "\n" + _bounded(self.formatException(record.exc_info))
        return line


def _keys(record: logging.LogRecord) -> dict[str, Any]:
    return {
        key: value
        for key, value in vars(record).items()
        # Ray adds to every record of its processes what only Ray's own formatter shows.
        if key not in _PLAIN_ATTRIBUTES and not key.startswith("_")
    }


def _bounded(traceback: str) -> str:
    if len(traceback) <= TRACEBACK_MAX:
        return traceback
    half = TRACEBACK_MAX // 2
    return f"{traceback[:half]}\n... ({len(traceback)} characters)\n{traceback[-half:]}"


def _instant(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"
