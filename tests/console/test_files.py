"""The files of the console, without a browser: what is imported is there, and graphs are drawn."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from greenroom.http.console import FOLDER

HERE = Path(__file__).parent
IMPORTS = re.compile(r'(?:from|import)\s*\(?"(\.[^"]+)"')
GRAPHS, SEED = 1500, 7


def modules() -> list[Path]:
    return sorted(FOLDER.rglob("*.js"))


def test_each_import_leads_to_a_file() -> None:
    imported = [(file, name) for file in modules() for name in IMPORTS.findall(file.read_text())]
    assert len(imported) > 50
    assert [(file.name, name) for file, name in imported if not (file.parent / name).exists()] == []


def test_each_page_has_its_module_and_its_styles() -> None:
    table = (FOLDER / "pages.js").read_text()
    named = re.findall(r'"((?:pages|css)/[\w.-]+)"', table)
    assert len(named) > 10
    assert [name for name in named if not (FOLDER / name).exists()] == []


def test_each_module_is_imported_by_another_one_or_is_a_page() -> None:
    used = {
        (file.parent / name).resolve()
        for file in modules()
        for name in IMPORTS.findall(file.read_text())
    }
    used |= {
        FOLDER / name
        for name in re.findall(r'"(pages/[\w.-]+)"', (FOLDER / "pages.js").read_text())
    }
    used |= {
        FOLDER / name
        for name in re.findall(r"\{static\}/([\w./-]+\.js)", (FOLDER / "index.html").read_text())
    }
    assert [str(file.relative_to(FOLDER)) for file in modules() if file not in used] == []


def test_modules_are_short() -> None:
    """As those of Python: `tests/test_sizes.py`."""
    long = {
        file.name: count
        for file in modules()
        if (count := len(file.read_text().splitlines())) > 400
    }
    assert long == {}


def test_nothing_parses_text_as_markup_or_code() -> None:
    """The policy of the page would refuse it; here it is found before a browser meets it."""
    forbidden = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|https?://(?!www\.w3\.org)[\w.]"
    )
    found = [
        (file.name, line.strip())
        for file in modules()
        for line in file.read_text().splitlines()
        if forbidden.search(line.split("//")[0]) and not line.strip().startswith(("//", "*", "/*"))
    ]
    assert [
        each for each in found if "placeholder" not in each[1] and "webhook=" not in each[1]
    ] == []


def test_graphs_are_drawn_without_overlaps(node: str) -> None:
    """Boxes apart, lines down, subgraphs around their nodes."""
    command = [node, str(HERE / "layout_checks.mjs"), str(GRAPHS), str(SEED)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["asked"] == GRAPHS
    assert told["empty"] == {"width": 0, "height": 0, "boxes": [], "groups": [], "lines": []}
    places = {box["id"]: box["y"] for box in told["agent"]["boxes"]}
    assert sorted(places, key=places.__getitem__) == ["__start__", "agent", "tools", "__end__"]
    back = [(line["source"], line["target"]) for line in told["agent"]["lines"] if line["isBack"]]
    assert back == [("tools", "agent")]
