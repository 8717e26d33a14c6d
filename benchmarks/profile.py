"""`python -m benchmarks.profile rps`: profiles the CPU of a server, process by process.

It runs a workload against a server of its own. Meanwhile it samples registry, gateway, run actors
and inspector with py-spy (`pip install py-spy`, which needs the right to trace: root, or
`kernel.yama.ptrace_scope` 0). It prints each process's share of a core and the functions that use
it, and leaves the folded stacks for a flame graph. Only threads that hold the interpreter's lock
are sampled: other threads mostly wait, and py-spy cannot always recognise that.

By hand, for a running server (process ids: `GET /info`, `counts.pool`; titles
`ray::RegistryActor`, `ray::ServeReplica:...`, `ray::RunActor`):

    py-spy record --pid PID --duration 10 --rate 100 --gil --format raw --output stacks.txt
    py-spy dump --pid PID
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.client import Stopwatch
from benchmarks.subjects import Greenroom, makers
from benchmarks.workloads import WORKLOADS, Scale

WATCHED = ("ray::RegistryActor", "ray::ServeReplica", "ray::RunActor")
RATE = 100
WARM_UP_S = 8.0
"""The time in which the pool grows to the needs of the clients."""

LIBRARIES = re.compile(r".*/(site-packages|python3\.\d+)/")


@dataclass
class Sampled:
    """A process that py-spy samples.

    Attributes:
        cpu_s: the process's CPU seconds at the start of the sampling.
    """

    title: str
    process: psutil.Process
    recorder: subprocess.Popen[bytes]
    stacks: Path
    cpu_s: float


def sample(subject: Greenroom, seconds: float, directory: Path) -> list[Sampled]:
    """Starts the sampling; the recorders end by themselves."""
    watched: list[Sampled] = []
    for title in WATCHED:
        for process in subject.processes.titled(title)[:3]:
            stacks = directory / f"{title.removeprefix('ray::')}-{process.pid}.txt"
            command = [_py_spy(), "record", "--pid", str(process.pid), "--rate", str(RATE)]
            command += ["--duration", str(round(seconds)), "--format", "raw"]
            command += ["--gil", "--output", str(stacks)]
            recorder = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            watched.append(Sampled(title, process, recorder, stacks, _cpu_s(process)))
    return watched


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _py_spy() -> str:
    found = shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if found is None:
        raise SystemExit("py-spy is not installed: pip install py-spy")
    return found


def by_kind(subject: Greenroom, before: dict[int, float], elapsed_s: float) -> dict[str, float]:
    """Returns the shares of a core by the kind of process."""
    kinds: dict[str, float] = defaultdict(float)
    for process in subject.processes:
        with contextlib.suppress(psutil.Error, IndexError):
            words = process.cmdline()[0].split()
            kind = Path(words[0]).name
            if kind == "postgres:":
                kind = "postgres" if "[local]" in words else "postgres, in the background"
            elif kind.startswith("ray::"):
                kind = kind.partition(".")[0]
            kinds[kind] += (_cpu_s(process) - before.get(process.pid, 0.0)) / elapsed_s
    return kinds


def hot(stacks: Path, top: int) -> list[tuple[str, float, float]]:
    """Returns functions by their share of samples: ``(function, with callees, on its own)``."""
    total = 0
    within: Counter[str] = Counter()
    itself: Counter[str] = Counter()
    for line in stacks.read_text().splitlines():
        frames, _, count = line.rpartition(" ")
        names = [LIBRARIES.sub("", frame) for frame in frames.split(";")]
        total += int(count)
        itself[names[-1]] += int(count)
        for name in set(names):
            within[name] += int(count)
    return [
        (name, count / total, itself[name] / total)
        for name, count in within.most_common()
        if count / total >= 0.01
    ][:top]


async def profile(
    subject: Greenroom, workload: str, clients: int, seconds: float, top: int, out: Path
) -> None:
    """Starts the subject, measures and samples it, and prints the result."""
    await subject.start()
    try:
        steady = _runs(subject, clients) if workload == "rps" else _repeated(subject, workload)
        work = asyncio.create_task(steady)
        await asyncio.sleep(WARM_UP_S)
        before = subject.processes.cpu_s()
        watch = Stopwatch()
        watched = sample(subject, seconds, out)
        await asyncio.gather(*(asyncio.to_thread(each.recorder.wait) for each in watched))
        elapsed_s = watch.s
        kinds = by_kind(subject, before, elapsed_s)
        shares = [(_cpu_s(each.process) - each.cpu_s) / elapsed_s for each in watched]
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    finally:
        await subject.stop()
    print(f"All processes together: {sum(kinds.values()):.0%} of a core")
    for kind, share in sorted(kinds.items(), key=lambda item: -item[1])[:12]:
        print(f"  {share:6.1%}  {kind}")
    for each, share in zip(watched, shares, strict=True):
        print(f"\n{each.title} {each.process.pid}: {share:.0%} of a core; {each.stacks}")
        for name, total, own in hot(each.stacks, top):
            print(f"  {total:6.1%} {own:6.1%}  {name}")


async def _runs(subject: Greenroom, clients: int) -> None:
    """Runs a trivial graph for ever; prints the rate now and then."""
    done = 0

    async def client() -> None:
        nonlocal done
        while True:
            await api.wait(await api.thread(), "trivial", {"x": 1})
            done += 1

    async def rate() -> None:
        while True:
            before, watch = done, Stopwatch()
            await asyncio.sleep(2.0)
            print(f"{(done - before) / watch.s:.0f} runs/s", file=sys.stderr)

    async with subject.connect(clients + 4) as api:
        await asyncio.gather(rate(), *(client() for _ in range(clients)))


async def _repeated(subject: Greenroom, workload: str) -> None:
    while True:
        print(await WORKLOADS[workload].run(subject, Scale()), file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile")
    parser.add_argument("workload", choices=[n for n, w in WORKLOADS.items() if not w.alone])
    parser.add_argument("--subject", choices=["greenroom", "dense"], default="greenroom")
    parser.add_argument("--clients", type=int, default=8, help="of rps")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--top", type=int, default=40)
    options = parser.parse_args(arguments)
    out = Path(tempfile.mkdtemp(prefix="greenroom-profile-"))
    subject = makers(Path, 1, None)[options.subject](out / "server")
    assert isinstance(subject, Greenroom)
    watched = profile(subject, options.workload, options.clients, options.seconds, options.top, out)
    asyncio.run(watched)


if __name__ == "__main__":
    main()
