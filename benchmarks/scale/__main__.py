"""How far one machine goes: streams that are open, and records that are stored.

    python -m benchmarks.scale streams --runs 10000
    python -m benchmarks.scale streams --runs 9000 --http1
    python -m benchmarks.scale stored --threads 1000000 --runs 10000000
    python -m benchmarks.scale constants

``streams`` begins so many runs that wait, opens a stream of each, and looks at what that takes;
then all runs end, and each stream must get its end. ``stored`` asks for what clients ask on a
database with so many records, then sweeps it, and prints what each statement of a sweep has read.
``constants`` measures what a run and an event take of each kind of process, for the model of
docs/scaling.md. The figures are JSON lines on the standard output.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import uvloop

from benchmarks.scale.constants import constants
from benchmarks.scale.stored import stored
from benchmarks.scale.streams import streams
from benchmarks.subjects import Greenroom
from greenroom.machine import raise_open_files


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("what", choices=("streams", "stored", "constants"))
    parser.add_argument("--runs", type=int, help="default 10,000; stored: 10,000,000")
    parser.add_argument("--threads", type=int, default=1_000_000, help="of stored runs")
    parser.add_argument("--requests", type=int, default=200, help="of each kind, to stored runs")
    parser.add_argument("--wait", type=float, help="seconds that each run waits")
    parser.add_argument("--http1", action="store_true", help="a connection for each stream")
    given = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="greenroom-scale-"))
    server = Greenroom("scale", "", scratch / "server", "scale.json")

    async def measure() -> None:
        try:
            if given.what == "constants":
                await constants(scratch)
            elif given.what == "streams":
                runs = given.runs or 10_000
                wait_s = given.wait or 90.0 + runs / 50
                await streams(server, runs, wait_s, over_http1=given.http1)
            else:
                await stored(server, given.threads, given.runs or 10_000_000, given.requests)
        finally:
            await server.stop()

    raise_open_files()
    try:
        uvloop.run(measure())
    except RuntimeError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
