"""What of a guide is executed: its fenced blocks, in order, and how each is to be taken.

A page is written for people, and this is how it is read by the tests:

- A block below a line that ends with a file name and a colon (``Write `agent.py`:``) is that file.
- ``sh`` and ``python`` are executed; ``json`` that is no file is (part of) a `langgraph.json`.
- ``text`` is what the block before it prints: ``…`` stands for anything within a line, and for any
  lines where it is a line of its own.
- ``<!-- background -->`` above a block starts it and leaves it running, as in a terminal of its
  own; above a ``text`` it says that this appears in that terminal.
- ``<!-- own server -->`` above a `greenroom serve` starts one for the rest of the page; elsewhere
  the one server of the tests has the graphs of the page.
- ``<!-- hidden python`` ... ``-->`` is executed and not shown: it makes what a reader has already.
- ``<!-- hidden console`` ... ``-->`` is done in the console, a step a line; the page says the same
  in words. The steps are in `tests/console/scenarios/guide.mjs`.
- ``<!-- browser: ADDRESS shows: TEXT -->`` opens a page, presses its button, waits for the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "docs" / "tutorial.md", *sorted((ROOT / "docs" / "how-to").glob("[a-z]*.md")))

_FENCE = re.compile(r"^```(\w*)$")
_HIDDEN = re.compile(r"^<!-- hidden (\w+)$")
_FILE = re.compile(r"`([\w./-]*\.\w+)`:$")
_BROWSER = re.compile(r"^<!-- browser: (.*) -->$")
_ANYTHING = "…"


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A part of a page that is executed or compared.

    Attributes:
        line: where it begins.
        file: the file that it is, or None.
        background: it runs in a terminal of its own, or is what appears there.
        own_server: it is a server that is started.
    """

    page: str
    line: int
    language: str
    text: str
    file: str | None = None
    background: bool = False
    own_server: bool = False

    def __str__(self) -> str:
        return f"{self.page}, line {self.line}:\n{self.text}"


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page, from top to bottom."""
    above, begin, language, text = "", 0, "", list[str]()
    end = ""
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if end:
            if line != end:
                text.append(line)
                continue
            file = _FILE.search(above)
            yield Block(
                page=page.name,
                line=begin,
                language=language,
                text="\n".join([*text, ""]),
                file=file[1] if file and end == "```" else None,
                background=above == "<!-- background -->",
                own_server=above == "<!-- own server -->",
            )
            end, above, text = "", "", []
        elif opened := _FENCE.match(line) or _HIDDEN.match(line):
            begin, language = number, opened[1]
            end = "```" if line.startswith("```") else "-->"
        elif seen := _BROWSER.match(line):
            yield Block(page=page.name, line=number, language="browser", text=seen[1])
        elif line:
            above = line
    assert not end, f"{page.name}: the block of line {begin} has no end"


def shows(text: str, output: str) -> bool:
    """Whether an output has what a ``text`` block says, from the beginning of a line on."""
    pattern = ""
    for line in text.rstrip().splitlines():
        if line == _ANYTHING:
            pattern += r"(?:.*\n)*?"
        else:
            parts = (re.escape(part) for part in line.rstrip().split(_ANYTHING))
            pattern += ".*?".join(parts) + r"[ \t]*\n"
    return re.search(rf"(?m)^{pattern}", output.replace("\r\n", "\n") + "\n") is not None
