"""`docs/compatibility.md`, written from the table of differences and the recorded outcome."""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.conformance.cases import CASES, SHAPES
from tests.conformance.differences import DIFFERENCES, ONLY_HERE

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "compatibility.md"
OUTCOME = Path(__file__).parent / "outcome.json"

HEAD = """\
# Compatibility

<!-- Written by `make conformance-reference` from tests/conformance; do not edit by hand. -->

Greenroom answers as the LangGraph Platform's server does. `tests/conformance` asks it what clients
rely on, with the Python SDK and with plain HTTP: streams byte for byte, headers, statuses, what
becomes of runs that meet, are cancelled or lose their reader. `make conformance-reference` installs
the reference server in an environment of its own, starts it and asks it the very same. It is under
the Elastic licence and is used as a black box: nothing here is made from its code.

```sh
make conformance-reference    # asks the reference
CONFORMANCE_URL=http://127.0.0.1:8000 .venv/bin/python -m pytest tests/conformance    # any server
```

## Outcome

"""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the last run against the reference gave.

    Attributes:
        versions: of the reference and of what it ran with.
        same: scenarios that the reference passes too.
        differ: scenarios that it does not pass, each in the table.
        not_asked: scenarios that it cannot be asked.
    """

    same: int
    differ: int
    not_asked: int
    versions: dict[str, str] = field(default_factory=dict[str, str])


def read_outcome() -> Outcome:
    return Outcome(**json.loads(OUTCOME.read_text()))


def write(outcome: Outcome) -> None:
    OUTCOME.write_text(json.dumps(asdict(outcome), indent=2) + "\n")
    PAGE.write_text(page(outcome))


def page(outcome: Outcome) -> str:
    total = outcome.same + outcome.differ + outcome.not_asked
    versions = ", ".join(f"`{name}` {version}" for name, version in outcome.versions.items())
    told = (
        f"Against {versions}: {total} scenarios, all of which Greenroom passes. On the reference "
        f"{outcome.same} are the same, {outcome.differ} differ by intent, {outcome.not_asked} are "
        "about what only Greenroom has. A scenario with several parameters counts several times."
    )
    lines = [
        *textwrap.wrap(told, 100, break_on_hyphens=False),
        "",
        "## Intended differences",
        "",
        "| Greenroom | why, and what the reference does |",
        "|---|---|",
        *(f"| {sentence(name)} | {reason} |" for name, reason in DIFFERENCES.items()),
        "",
        "## Only here",
        "",
        *(f"- `{module}`: {reason}" for module, reason in ONLY_HERE.items()),
        "",
        "## Cases from public trackers",
        "",
        "What users of other servers have met, and what happens here.",
        "",
        "| case | what people do | right | test |",
        "|---|---|---|---|",
        *(f"| {case.id} | {case.what} | {case.right} | `{case.test}` |" for case in CASES),
        "",
        "## Shapes of projects",
        "",
        "`tests/projects` has small projects; each is loaded by its `langgraph.json` and run.",
        "",
        "| project | stands for |",
        "|---|---|",
        *(f"| `{folder}` | {shape} |" for folder, shape in SHAPES.items()),
    ]
    return HEAD + "\n".join(lines) + "\n"


def sentence(scenario: str) -> str:
    """A scenario's name as the sentence that it is."""
    name, _, parameters = scenario.partition("::test_")[2].partition("[")
    words = name.replace("_", " ")
    shown = re.sub(r"\|", r"\\|", parameters.rstrip("]"))
    return f"{words[:1].upper()}{words[1:]}" + (f" (`{shown}`)" if shown else "")


if __name__ == "__main__":  # after a change of a table: the reference need not be asked again
    write(read_outcome())
