"""`python -m benchmarks`, or `make bench`: measures all subjects and writes the table.

Rounds are interleaved: each subject has one turn per round, so that other load on the machine
affects all subjects alike. During its turn a subject has the machine to itself, because an idle
server of either kind takes up to a fifth of a core.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import TextIO

import uvloop

from benchmarks import report
from benchmarks.subjects import (
    NO_AEGRA,
    Aegra,
    Reference,
    Subject,
    aegra_python,
    makers,
    reference_python,
)
from benchmarks.workloads import QUICK, WORKLOADS, Scale, Workload

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
RESULTS = ROOT / ".greenroom" / "benchmarks.jsonl"


@dataclass
class Bench:
    """The subjects and workloads of one call, and their measurement."""

    subjects: dict[str, Subject]
    scale: Scale
    rounds: int
    output: TextIO

    async def measure(self, workloads: Sequence[Workload]) -> None:
        """Executes all rounds of all workloads."""
        for number in range(self.rounds):
            for subject in self.subjects.values():
                await self._turn(subject, [w for w in workloads if subject.name in w.of], number)

    async def _turn(self, subject: Subject, workloads: Sequence[Workload], number: int) -> None:
        """Executes one round of one subject; workloads that start the subject go first."""
        for workload in workloads:
            # A database is filled once; it would be the same again.
            if workload.alone and not (workload.name in ("stored", "items") and number):
                await self._once(workload, subject, number)
        rest = [workload for workload in workloads if not workload.alone]
        try:
            if rest and await self._started(subject):
                for workload in rest:
                    await self._once(workload, subject, number)
        finally:
            await subject.stop()

    async def _started(self, subject: Subject) -> bool:
        self._say(f"starting {subject.name}")
        try:
            await subject.start()
        except Exception as error:  # noqa: BLE001 - the others can still be measured
            record = {"workload": "start", "subject": subject.name, "failure": str(error)[-500:]}
            self._write(record)
            return False
        return True

    async def _once(self, workload: Workload, subject: Subject, number: int) -> None:
        record: report.Record = {
            "workload": workload.name,
            "subject": subject.name,
            "round": number + 1,
        }
        began = time.monotonic()
        try:
            figures = await workload.run(subject, self.scale)
            record["figures"] = {name: round(value, 3) for name, value in figures.items()}
        except Exception as error:  # noqa: BLE001 - one failure must not cost the hour of the others
            record["failure"] = f"{type(error).__name__}: {error}"[:500]
        record["took_s"] = round(time.monotonic() - began, 1)
        self._write(record)

    def _write(self, record: report.Record) -> None:
        line = json.dumps(record)
        self.output.write(line + "\n")
        self.output.flush()
        self._say(line)

    def _say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small and rough, to try it out")
    parser.add_argument("--rounds", type=int, help="of each workload (default 3; quick: 1)")
    parser.add_argument("--only", help=f"some of: {','.join(WORKLOADS)}")
    parser.add_argument(
        "--subjects", help="some of: bare,bare-pooled,greenroom,dense,reference,reference-few,aegra"
    )
    parser.add_argument(
        "--reference",
        type=Path,
        default=os.environ.get("REFERENCE_PYTHON"),
        help="environment, or its Python, with langgraph-cli[inmem] (default: $REFERENCE_PYTHON,"
        " else .venv-reference, made when it is not there)",
    )
    parser.add_argument("--reference-jobs", type=int, default=500, help="its --n-jobs-per-worker")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON lines, written anew")
    parser.add_argument(
        "--table", type=Path, nargs="+", help="measure nothing: the table of these JSON lines"
    )
    parser.add_argument(
        "--write",
        action=argparse.BooleanOptionalAction,
        help="put the table into docs/benchmarks.md (default: when all of it was measured)",
    )
    return parser.parse_args(arguments)


def chosen(given: str | None, known: Sequence[str]) -> list[str]:
    """Returns the names in a list of ``--only`` or ``--subjects``; all names without a list."""
    names = given.split(",") if given else list(known)
    unknown = set(names) - set(known)
    if unknown:
        raise SystemExit(f"Unknown: {', '.join(sorted(unknown))}. Known: {', '.join(known)}.")
    return [name for name in known if name in names]


def _terminated(number: int, frame: FrameType | None) -> None:
    # As Ctrl-C does it: the servers are stopped first.
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> None:
    signal.signal(signal.SIGTERM, _terminated)
    options = parsed(arguments)
    if options.table:
        lines = [line for path in options.table for line in path.read_text().splitlines()]
    else:
        lines = measured(options)
    table = report.table([json.loads(line) for line in lines])
    print(table)
    partial = options.quick or options.only or options.subjects
    if options.write or (options.write is None and not partial):
        PAGE.write_text(report.placed(PAGE.read_text(), table))


def measured(options: argparse.Namespace) -> list[str]:
    """Measures; returns the JSON lines, which the file of results also has."""
    aegra = aegra_python(ROOT)
    if aegra is None:
        print(f"{NO_AEGRA} It is left out.", file=sys.stderr, flush=True)
    reference = cache(lambda: reference_python(options.reference, ROOT))
    known = makers(reference, options.reference_jobs, aegra)
    names = chosen(options.subjects, list(known))
    workloads = [WORKLOADS[name] for name in chosen(options.only, list(WORKLOADS))]
    scratch = Path(tempfile.mkdtemp(prefix="greenroom-bench-"))
    options.results.parent.mkdir(parents=True, exist_ok=True)
    try:
        subjects = {name: known[name](scratch / name) for name in names}
        rounds = options.rounds or (1 if options.quick else 3)
        with options.results.open("w") as output:
            output.write(json.dumps({"about": _about(subjects, options, rounds)}) + "\n")
            bench = Bench(subjects, QUICK if options.quick else Scale(), rounds, output)
            uvloop.run(bench.measure(workloads))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return options.results.read_text().splitlines()


def _about(subjects: dict[str, Subject], options: argparse.Namespace, rounds: int) -> report.About:
    about = report.machine() | report.versions()
    about["titles"] = {name: subject.title for name, subject in subjects.items()}
    about["rounds"] = rounds
    about["quick"] = bool(options.quick)
    reference, aegra = subjects.get("reference"), subjects.get("aegra")
    if isinstance(reference, Reference):
        about["reference"] = f"langgraph-api {reference.version()}"
    if isinstance(aegra, Aegra):
        about["aegra"] = f"aegra-api {aegra.version()}"
    return about


if __name__ == "__main__":
    main()
