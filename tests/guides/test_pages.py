"""A page that says something else than what happens is found out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guides.pages import PAGES, blocks, shows

PAGE = """\
Write `agent.py`:

```python
graph = 1
```

and then

<!-- background -->
```sh
python agent.py
```

<!-- background -->
```text
ready
```

<!-- hidden python
print("not shown")
-->

<!-- browser: http://127.0.0.1/ shows: Hello -->
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    file = tmp_path / "page.md"
    file.write_text(PAGE)
    return file


def test_a_page_is_read_from_top_to_bottom(page: Path) -> None:
    read = [(each.language, each.file, each.background, each.text) for each in blocks(page)]
    assert read == [
        ("python", "agent.py", False, "graph = 1\n"),
        ("sh", None, True, "python agent.py\n"),
        ("text", None, True, "ready\n"),
        ("python", None, False, 'print("not shown")\n'),
        ("browser", None, False, "http://127.0.0.1/ shows: Hello"),
    ]


def test_a_block_without_an_end_is_refused(page: Path) -> None:
    page.write_text(PAGE + "```sh\n")
    with pytest.raises(AssertionError, match="has no end"):
        list(blocks(page))


@pytest.mark.parametrize(
    ("text", "output", "found"),
    [
        ("one\ntwo", "zero\none\ntwo\nthree\n", True),
        ("one\ntwo", "one\nand\ntwo\n", False),
        ("one\n…\ntwo", "one\nand\nmore\ntwo\n", True),
        ("one\n…\ntwo", "one\ntwo", True),
        ("one", "one and a half\n", False),
        ("one", "twenty-one\n", False),
        ("one…", "one and a half\n", True),
        ("pid …, ok", "pid 4711, ok  \r\n", True),
        ("pid …, ok", "pid 47\n11, ok\n", False),
        ("[a] (b)", "[a] (b)", True),
    ],
)
def test_what_is_printed_has_to_be_what_is_shown(text: str, output: str, found: bool) -> None:
    assert shows(text, output) is found


def test_there_are_guides_and_each_of_them_has_something_to_do() -> None:
    assert len(PAGES) > 9
    for page in PAGES:
        assert any(each.language != "text" for each in blocks(page)), page.name
