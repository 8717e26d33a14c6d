"""What an answer tells of the end of a run."""

from __future__ import annotations

from typing import Any

from greenroom.core.outputs import output_of
from greenroom.core.runs import Outcome
from greenroom.wire.encoding import loads


def shown_output(end: Outcome) -> Any:
    """Returns the output of a run. Of a failed run, whose output is its error, it returns what the
    graph's output schema shows of the state that the run reached."""
    if end.error is None or not end.values:
        return loads(end.output)
    keys = None if end.output_keys is None else loads(end.output_keys)
    return output_of(loads(end.values), keys)
