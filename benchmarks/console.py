"""Measures the console in a browser: first paint, and long frames while events come fast.

    python -m benchmarks.console [--rounds 10]

A server with the graphs of the benchmarks, on loopback, and Chromium without a window on the same
machine. First paint is that of a new context, so nothing is cached: the page, its styles, its
modules. A frame is long where the page kept the browser busy for more than 50 ms while a run of
`burst` emitted 1,000 events a second for five seconds, all of which the page shows.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.clients import npm
from tests.clients.chromium import Browser
from tests.programs import CONSOLE
from tests.serving import serving

GRAPHS = Path(__file__).parent / "graphs" / "langgraph.json"
RATE, SECONDS = 1000, 5


async def measure(browser: Browser, url: str, rounds: int) -> None:
    """Prints the figures of each kind."""
    at: dict[str, Any] = {"url": url, "fresh": True}
    await browser.play("figures.painted", place="threads", **at)  # the first one warms the browser
    for place in ("", "threads", "inbox", "now"):
        told = [await browser.play("figures.painted", place=place, **at) for _ in range(rounds)]
        paint = [each["first_paint_ms"] for each in told]
        kilobytes = told[0]["bytes"] / 1000
        print(
            f"/console/{place}: first paint {statistics.median(paint):.0f} ms"
            f" (most {max(paint):.0f}), {kilobytes:.0f} kB in {told[0]['files']} files"
        )
    given = {"events": RATE * SECONDS, "rate": RATE}
    for _ in range(max(1, rounds // 3)):
        told = await browser.play("figures.burst", assistant="burst", input=given, **at)
        print(
            f"{RATE} events a second: {told['frames']} frames, {told['over_50_ms']} over 50 ms,"
            f" the longest {told['longest_ms']:.0f} ms; long tasks: {told['tasks']}"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    rounds: int = parser.parse_args(arguments).rounds
    with tempfile.TemporaryDirectory(prefix="bench-console-") as folder:
        with serving(Path(folder), GRAPHS) as server:
            with Browser.launched(
                npm.node(), npm.chromium(as_people_have_it=True), CONSOLE
            ) as browser:
                asyncio.run(measure(browser, server.url, rounds))


if __name__ == "__main__":
    main()
