"""Log lines: a sentence for people, and keys for machines.

``log.info("A run has ended.", extra={"action": "run_ended", "run_id": run_id})`` becomes one JSON
object a line, or, on a terminal, the sentence with its keys behind it.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, TextIO

from greenroom.settings import LogFormat, LogLevel

_PLAIN_ATTRIBUTES = frozenset(
    {*vars(logging.makeLogRecord({})), "message", "asctime", "color_message", "taskName"}
)
"""What every record has; the rest came through ``extra``. (uvicorn adds a coloured message.)"""


def configure_logs(level: LogLevel, form: LogFormat, stream: TextIO | None = None) -> None:
    """Sends the lines of this process to ``stream`` (standard error); replaces what was set up.

    Args:
        level: of Greenroom's own lines; libraries are heard from ``warning`` on.
        form: ``auto`` is plain on a terminal and JSON elsewhere.
    """
    target = stream or sys.stderr
    plain = form == "plain" or (form == "auto" and target.isatty())
    handler = logging.StreamHandler(target)
    handler.setFormatter(PlainFormatter() if plain else JsonFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))
    for name in ("greenroom", "actors"):
        logging.getLogger(name).setLevel(level.upper())


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``at``, ``level``, ``logger``, ``message``, then the keys."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": _instant(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_keys(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        # A value that JSON does not know must not cost the line that would have explained it.
        return json.dumps(line, default=str, ensure_ascii=False)


class PlainFormatter(logging.Formatter):
    """``12:03:11 info  A run has ended.  run_id=… action=…``"""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        keys = "".join(f"  {key}={value}" for key, value in _keys(record).items())
        line = f"{clock} {record.levelname.lower():<7} {record.getMessage()}{keys}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _keys(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _PLAIN_ATTRIBUTES}


def _instant(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"
