"""Turns JSON lines into the table: medians of the rounds, ratios, and bars, met or missed."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import psutil

About = dict[str, Any]
Record = dict[str, Any]
Medians = dict[tuple[str, str, str], float]
"""By workload, figure and subject."""

BEGIN = "<!-- bench: written by `make bench` -->"
END = "<!-- bench: end -->"
PACKAGES = ("greenroom", "langgraph", "langgraph-checkpoint-postgres", "ray", "psycopg", "uvloop")


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A limit for a figure.

    Attributes:
        of: the subjects that must meet the limit.
        against: the subjects to compare with (the best one that was measured); empty for an
            absolute limit.
        relation: ``times`` the other figure, or ``above`` it.
    """

    limit: float
    of: tuple[str, ...]
    is_minimum: bool = False
    against: tuple[str, ...] = ()
    relation: Literal["times", "above"] = "times"

    def value(self, figures: dict[str, float], subject: str) -> float | None:
        """Returns the value to compare with the limit; None if a part of it was not measured."""
        own = figures.get(subject)
        if own is None or not self.against:
            return own
        others = [figures[name] for name in self.against if name in figures]
        if not others:
            return None
        other = max(others) if self.is_minimum else min(others)
        return own - other if self.relation == "above" else own / other

    def is_met(self, value: float) -> bool:
        return value >= self.limit if self.is_minimum else value <= self.limit

    def __str__(self) -> str:
        sign = "≥" if self.is_minimum else "≤"
        if not self.against:
            return f"{sign} {self.limit:g}"
        other = "bare" if self.against == BARE else self.against[0]
        if self.relation == "above":
            return f"{sign} {other} + {self.limit:g}"
        return f"{sign} {self.limit:g} x {other}"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    workload: str
    figure: str
    label: str
    bars: tuple[Bar, ...] = ()


BARE = ("bare", "bare-pooled")
BOTH = ("greenroom", "dense")
PACE = (Bar(limit=30, of=BOTH),)
READ = (Bar(limit=20, of=("greenroom",)),)
QUERY = (Bar(limit=50, of=BOTH[:1]),)
RATE = (Bar(limit=1.3, of=BOTH, is_minimum=True, against=("reference", "reference-few")),)
FULL_RATE = (
    *RATE,
    Bar(limit=0.3, of=("greenroom",), is_minimum=True, against=BARE),
    Bar(limit=0.5, of=("dense",), is_minimum=True, against=BARE),
)

FIRST = (Bar(limit=4, of=BOTH, against=BARE, relation="above"),)
FIRST_P95 = (Bar(limit=8, of=BOTH, against=BARE, relation="above"),)
OK = (Bar(limit=1, of=BOTH),)

ROWS = (
    Row("ttft", "first_token_ms", "first token, ms", FIRST),
    Row("ttft", "first_token_p95_ms", "first token, p95, ms", FIRST_P95),
    Row("beside", "first_token_ms", "first token beside 32 streams, ms", FIRST),
    Row("beside", "first_token_p95_ms", "first token beside 32 streams, p95, ms", FIRST_P95),
    Row("ttft", "ok_ms", "`/ok`, ms", OK),
    Row("beside", "ok_ms", "`/ok` beside 32 streams, ms", OK),
    Row("rps", "runs_per_s_1", "trivial runs/s, 1 client"),
    Row("rps", "p50_ms_1", "a trivial run, 1 client, ms"),
    Row("rps", "runs_per_s_8", "trivial runs/s, 8 clients", RATE),
    Row("rps", "p95_ms_8", "a trivial run, 8 clients, p95, ms"),
    Row("rps", "runs_per_s_32", "trivial runs/s, 32 clients", FULL_RATE),
    Row("rps", "p95_ms_32", "a trivial run, 32 clients, p95, ms"),
    Row(
        "rps",
        "cpu_ms_per_run_32",
        "CPU of a trivial run, 32 clients, ms",
        (Bar(limit=6.5, of=("greenroom",)),),
    ),
    Row("slow", "once_200_s", "200 runs that sleep 1 s, s", (Bar(limit=1.5, of=("dense",)),)),
    Row("slow", "once_500_s", "500 runs that sleep 1 s, s", (Bar(limit=2.5, of=("dense",)),)),
    Row("slow", "ten_times_200_s", "200 runs that sleep 10 x 0.1 s, s"),
    Row("slow", "ten_times_500_s", "500 runs that sleep 10 x 0.1 s, s"),
    Row("block", "none_p99_ms", "token gap p99 at 20 ms, undisturbed, ms", PACE),
    Row("block", "async_sleep_p99_ms", "the same beside `time.sleep` in an async node", PACE),
    Row("block", "async_cpu_p99_ms", "the same beside a spinning async node", PACE),
    Row("block", "sync_sleep_p99_ms", "the same beside `time.sleep` in a sync node", PACE),
    Row("block", "sync_cpu_p99_ms", "the same beside a spinning sync node", PACE),
    Row("block", "async_sleep_max_ms", "largest gap beside `time.sleep` in an async node, ms"),
    Row("block", "async_cpu_max_ms", "largest gap beside a spinning async node, ms"),
    Row("cpu", "two_s", "two CPU-bound runs of 2 s at once, s", (Bar(limit=2.6, of=BOTH[:1]),)),
    Row(
        "tokens",
        "events_per_s_1",
        "tokens/s, 1 stream",
        (Bar(limit=0.9, of=BOTH, is_minimum=True, against=BARE),),
    ),
    Row("tokens", "events_per_s_8", "tokens/s, 8 streams"),
    Row(
        "burst",
        "live_ms",
        "run of 5,000 events, live, ms",
        (Bar(limit=3, of=BOTH, against=BARE),),
    ),
    Row("burst", "join_ms", "5,000 logged events to a joiner, ms", (Bar(limit=60, of=BOTH),)),
    Row("burst", "replay_ms", "the same after the run's end, ms"),
    Row("blob", "run_1_mib_ms", "run with 1 MiB of state, ms"),
    Row(
        "blob",
        "run_10_mib_ms",
        "run with 10 MiB of state, ms",
        (Bar(limit=2, of=BOTH, against=BARE),),
    ),
    Row("blob", "state_10_mib_ms", "reading that state, ms"),
    Row(
        "history",
        "read_ms",
        "history of 1,000 checkpoints, ms",
        (Bar(limit=200, of=BOTH),),
    ),
    Row(
        "idle",
        "quiet_cpu_percent",
        "CPU without any stream, % of a core",
        (Bar(limit=5, of=BOTH),),
    ),
    Row("idle", "cpu_percent", "CPU of 1,000 idle streams, % of a core"),
    Row("idle", "added_mib", "memory of 1,000 idle streams, MiB"),
    Row("startup", "warm_s", "start to ready, s", (Bar(limit=7, of=BOTH),)),
    Row("startup", "cold_s", "first start, cold files, s"),
    Row("startup", "stop_s", "stop, s"),
    Row(
        "cold",
        "runs_per_s",
        "8 clients on a cold server, first 3 s, runs/s",
        (Bar(limit=60, of=("greenroom",), is_minimum=True),),
    ),
    Row("cold", "overflow_runs_per_s", "the same where a burst may share (`overflow`)"),
    Row("memory", "idle_mib", "memory idle (PSS), MiB", (Bar(limit=750, of=BOTH),)),
    Row("memory", "per_actor_mib", "each further run actor, MiB", (Bar(limit=100, of=BOTH[:1]),)),
    Row("stored", "get_run_p95_ms", "1,000,000 runs stored: get a run, p95, ms", READ),
    Row("stored", "list_runs_p95_ms", "list a thread's runs, p95, ms", READ),
    Row("stored", "get_thread_p95_ms", "get a thread, p95, ms", READ),
    Row("stored", "search_p95_ms", "search threads, p95, ms", READ),
    Row("stored", "search_status_p95_ms", "search threads by status, p95, ms", READ),
    Row("stored", "search_metadata_p95_ms", "search threads by metadata, p95, ms", READ),
    Row("stored", "search_page_p95_ms", "search threads, offset 1,000, p95, ms", READ),
    Row("stored", "create_wait_p50_ms", "a trivial run, p50, ms"),
    Row("stored", "create_wait_p95_ms", "a trivial run, p95, ms"),
    Row("items", "search_p95_ms", "100,000 items stored: search items, p95, ms", READ),
    Row("items", "search_page_p95_ms", "search items, offset 1,000, p95, ms", READ),
    Row("items", "search_user_p95_ms", "search the items of one namespace, p95, ms", READ),
    Row("items", "query_p95_ms", "search items with a query, p95, ms", QUERY),
    Row("items", "query_user_p95_ms", "with a query, one namespace, p95, ms", QUERY),
    Row("items", "query_filter_p95_ms", "with a query and a filter for half, p95, ms", QUERY),
    Row("items", "recall_percent", "of the ten most similar items it finds, %"),
    Row("items", "put_p95_ms", "put an item, embedded, p95, ms"),
    Row("items", "get_p95_ms", "get an item, p95, ms", READ),
)


def medians(records: list[Record]) -> Medians:
    """Returns the median of each figure over its rounds."""
    seen: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for record in records:
        for figure, value in record.get("figures", {}).items():
            seen[record["workload"], figure, record["subject"]].append(value)
    return {key: statistics.median(values) for key, values in seen.items()}


def table(records: list[Record]) -> str:
    """Returns the table, the description of the machine, and the list of failures."""
    abouts = [record["about"] for record in records if "about" in record]
    titles: dict[str, str] = {}
    for about in abouts:
        titles |= about["titles"]
    found = medians(records)
    subjects = [name for name in titles if any(key[2] == name for key in found)]
    head = ["", *(titles[name] for name in subjects), "bar", "met"]
    lines = [_cells(head), _cells(["---", *["---:"] * len(subjects), "---", "---"])]
    for row in ROWS:
        figures = {name: found.get((row.workload, row.figure, name)) for name in subjects}
        measured = {name: value for name, value in figures.items() if value is not None}
        if measured:
            shown = [_number(figures[name]) for name in subjects]
            verdicts = "<br>".join(_verdicts(row, measured, subjects))
            lines.append(
                _cells([row.label, *shown, "<br>".join(str(bar) for bar in row.bars), verdicts])
            )
    parts = [*(_described(about) for about in abouts), "\n".join(lines), *_troubles(records)]
    return "\n\n".join(parts)


def _verdicts(row: Row, figures: dict[str, float], subjects: list[str]) -> Iterator[str]:
    for bar in row.bars:
        said: list[str] = []
        for name in bar.of:
            value = bar.value(figures, name) if name in subjects else None
            if value is not None:
                how = f" ({_number(value)})" if bar.against else ""
                said.append(f"{name}: {'yes' if bar.is_met(value) else '**no**'}{how}")
        yield ", ".join(said)


def _described(about: About) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in about["versions"].items())
    others = "".join(f"; {each}: {about[each]}" for each in ("reference", "aegra") if each in about)
    quick = " **Quick run: rough figures.**" if about["quick"] else ""
    return (
        f"{about['date']}: {about['cores']} cores ({about['cpu']}), {about['memory_gib']} GiB,"
        f" {about['system']}. {versions}{others}. Medians of {about['rounds']} interleaved"
        f" rounds.{quick}"
    )


def _troubles(records: list[Record]) -> Iterator[str]:
    """Lists the runs and measurements that failed; without the list the figures would flatter."""
    said: list[str] = []
    for record in records:
        where = f"{record.get('workload')}, {record.get('subject')}, round {record.get('round')}"
        if "failure" in record:
            said.append(f"- {where}: {record['failure']}".replace("\n", " "))
        said += [
            f"- {where}: {name} {value:g}"
            for name, value in record.get("figures", {}).items()
            if name.startswith(("failed", "broken")) and value
        ]
    if said:
        yield "What failed:\n\n" + "\n".join(said)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _cells(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def placed(page: str, content: str) -> str:
    """Returns the page with the table between its markers, or at its end if it has no markers."""
    if BEGIN not in page:
        page = f"{page.rstrip()}\n\n{BEGIN}\n{END}\n"
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n{content}\n\n{END}{after}"


def machine() -> About:
    """Describes the machine."""
    return {
        "date": datetime.date.today().isoformat(),
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
    }


def _cpu() -> str:
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def versions() -> About:
    """Describes the measured versions."""
    return {"versions": {name: importlib.metadata.version(name) for name in PACKAGES}}
