"""The subjects of the benchmarks, with one interface: thread, wait, stream."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.subjects.bare import Bare as Bare
from benchmarks.subjects.others import NO_AEGRA as NO_AEGRA
from benchmarks.subjects.others import Aegra as Aegra
from benchmarks.subjects.others import Reference as Reference
from benchmarks.subjects.others import aegra_python as aegra_python
from benchmarks.subjects.others import reference_python as reference_python
from benchmarks.subjects.ours import Greenroom as Greenroom
from benchmarks.subjects.server import Server as Server
from benchmarks.subjects.subject import Connected as Connected
from benchmarks.subjects.subject import Subject as Subject

FEW_JOBS = 10
"""With few jobs its queue stays full under load, and it polls less: more trivial runs a second, and
far fewer that sleep."""


def makers(
    reference: Callable[[], Path], jobs: int, aegra: Path | None
) -> dict[str, Callable[[Path], Subject]]:
    """Returns a constructor per subject, given a scratch directory, in the order of the table.

    Args:
        reference, aegra: the Pythons of their environments; without Aegra it is no subject.
        jobs: the runs that the reference executes concurrently.
    """
    found: dict[str, Callable[[Path], Subject]] = {
        "bare": lambda scratch: Bare(scratch, pooled=False),
        "bare-pooled": lambda scratch: Bare(scratch, pooled=True),
        "greenroom": lambda scratch: Greenroom(
            "greenroom", "Greenroom, one run per actor", scratch, "langgraph.json"
        ),
        "dense": lambda scratch: Greenroom("dense", "Greenroom, dense", scratch, "dense.json"),
        "reference": lambda scratch: Reference("reference", scratch, reference(), jobs),
        "reference-few": lambda scratch: Reference("reference-few", scratch, reference(), FEW_JOBS),
    }
    if aegra is not None:
        found["aegra"] = lambda scratch: Aegra("aegra", scratch, aegra)
    return found
