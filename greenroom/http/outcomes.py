"""What an answer tells of the end of a run."""

from __future__ import annotations

from typing import Any

from greenroom.core.outputs import output_of
from greenroom.core.runs import Outcome
from greenroom.wire.encoding import loads


def left_by(end: Outcome) -> Any:
    """Returns what a run has left, as its graph's output schema shows it: the output, or of a
    failed run the state that it reached. The output of such a run is its error."""
    if end.error is None or not end.values:
        return loads(end.output)
    keys = None if end.output_keys is None else loads(end.output_keys)
    return output_of(loads(end.values), keys)
