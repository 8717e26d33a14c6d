"""The documentation is read by a machine too: what it names has to be there."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from doc_pages import configuration as configuration_page
from doc_pages import settings as settings_page
from greenroom import environment
from greenroom.cli import app
from greenroom.graphs.configuration import OURS, PlacementSpec, parse_configuration
from greenroom.settings import Settings, variable
from tests.conftest import FIRST, GROUPS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


def anchors(page: Path) -> Iterator[str]:
    for heading in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_page_of_settings_is_what_the_code_says() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == settings_page.document(), (
        "run `make settings`"
    )


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    assert [name for name in Settings.model_fields if f"`{variable(name)}`" not in page] == []


def test_the_environment_that_the_page_tells_to_set_is_the_one_that_serve_sets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(environment, "haproxy_available", lambda: True)
    page = (ROOT / "docs" / "settings.md").read_text()
    told = dict(re.findall(r"(RAY_\w+)=([\w.]+)", page))
    ours = environment.ray_environment(Settings.read())
    assert told
    assert {name: ours.get(name) for name in told} == told


def test_every_variable_that_a_page_names_is_a_setting() -> None:
    known = {variable(name) for name in Settings.model_fields}
    named = {
        (page.name, name)
        for page in PAGES
        for name in re.findall(r"\bGREENROOM_[A-Z_]*[A-Z]\b", page.read_text())
    }
    assert {(page, name) for page, name in named if name not in known} == set()


def test_the_page_of_the_configuration_is_what_the_code_says() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert page == configuration_page.document(), "run `make settings`"


def test_every_key_of_the_greenroom_section_is_documented() -> None:
    documented = re.findall(r"^\| `(\w+)` \|", configuration_page.document(), re.MULTILINE)
    assert {*OURS, *PlacementSpec.__dataclass_fields__} <= set(documented)


def test_the_configuration_that_its_page_shows_is_accepted() -> None:
    (block,) = re.findall(r"```json\n(.*?)```", configuration_page.document(), re.DOTALL)
    content = json.loads(block)
    # Its `.env` is nobody's.
    configuration = parse_configuration({**content, "env": {}}, ROOT)
    assert configuration.graph("painter").placement.num_gpus == 1
    assert configuration.warnings == ()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_internal_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in set(anchors(target)), f"{page.name}: {link}"


def test_pictures_that_a_page_shows_are_there() -> None:
    shown = [
        (page, name)
        for page in PAGES
        for name in re.findall(r'<(?:img|source)[^>]* (?:src|srcset)="([^"]+)"', page.read_text())
    ]
    assert len(shown) > 4
    assert [(page.name, name) for page, name in shown if not (page.parent / name).exists()] == []


def test_pictures_are_small_and_shown() -> None:
    """`python -m tests.console.pictures` takes them; each has both sizes and both themes."""
    folder = ROOT / "docs" / "console"
    taken = {file.name: file.stat().st_size for file in folder.iterdir()}
    names = {name.split("-")[0] for name in taken}
    looks = [f"-{width}-{theme}.png" for width in (1280, 390) for theme in ("light", "dark")]
    assert set(taken) == {name + look for name in names for look in looks}
    assert sum(taken.values()) < 2_000_000
    assert {
        name for name in names if f"console/{name}-" not in "".join(map(Path.read_text, PAGES))
    } == set()


def named_in_the_architecture() -> list[tuple[str, str]]:
    """Every file and the object in it, as ``(file, dotted name)``."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    return re.findall(r"`([\w/]+\.py)`:\s+`([\w.]+)`", page)


def test_what_the_architecture_names_is_there() -> None:
    """As an import finds it."""
    named = named_in_the_architecture()
    assert len(named) > 50
    missing = []
    for file, name in named:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what Ray imports in its turn
            found: Any = importlib.import_module(file.removesuffix(".py").replace("/", "."))
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is None:
            missing.append(f"{file}: {name}")
    assert missing == []


def test_the_architecture_answers_five_questions_of_a_newcomer() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    (section,) = re.findall(r"^### Five questions.*?$(.*?)^## ", page, re.DOTALL | re.MULTILINE)
    answers = re.findall(r"\*\*([^*]+\?)\*\*(.*?)(?=\n\*\*|\Z)", section, re.DOTALL)
    assert len(answers) == 5
    named = named_in_the_architecture()
    for question, answer in answers:
        given = re.findall(r"`([\w/]+\.py)`:\s+`([\w.]+)`", answer)
        assert given, question
        assert set(given) <= set(named), question


def test_every_module_that_a_page_names_exists() -> None:
    for page in PAGES:
        if page.name == "CHANGELOG.md":
            continue
        for file in re.findall(r"`((?:actors|greenroom|tests)/[\w/]+\.py)`", page.read_text()):
            assert (ROOT / file).exists(), f"{page.name}: {file}"


def test_every_make_target_that_a_page_names_exists() -> None:
    for page in PAGES:
        named = set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE))
        assert named <= targets(), page.name


def test_every_make_target_is_phony_and_explained() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == targets()
    help_text = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout
    assert set(re.findall(r"^  make ([a-z-]+) ", help_text, re.MULTILINE)) == targets()


def test_every_command_and_option_that_a_page_names_exists() -> None:
    group = typer.main.get_command(app)
    commands = getattr(group, "commands", {})
    for page in PAGES:
        for line in re.findall(
            r"(?:`|/|^)greenroom ([a-z][^`\n]*)", page.read_text(), re.MULTILINE
        ):
            name, *words = line.split()
            assert name in commands, f"{page.name}: greenroom {line}"
            command = commands[name]
            if words and words[0] in (within := getattr(command, "commands", {})):
                command = within[words[0]]
            known = {
                option
                for parameter in command.params
                for option in (*parameter.opts, *parameter.secondary_opts)
            } | {"--help"}
            assert {word for word in words if word.startswith("--")} <= known, (
                f"{page.name}: {line}"
            )


def test_every_command_is_in_the_readme() -> None:
    commands = getattr(typer.main.get_command(app), "commands", {})
    assert {name for name in commands if f"`greenroom {name}`" not in README} == set()


def test_the_configuration_in_the_readme_is_accepted() -> None:
    (block,) = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    configuration = parse_configuration(json.loads(block), ROOT)
    assert configuration.graph("agent").placement.timeout_s == 600
    assert configuration.warnings == ()


def test_the_python_in_the_readme_compiles_and_is_six_lines() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    compile(block, "README.md", "exec")
    assert len([line for line in block.splitlines() if line]) <= 6


def test_the_curl_in_the_readme_asks_an_example_that_exists() -> None:
    match = re.search(r"-d '(\{.*?\})'", README, re.DOTALL)
    assert match is not None
    graphs = json.loads((ROOT / "examples" / "langgraph.json").read_text())["graphs"]
    assert json.loads(match[1])["assistant_id"] in graphs


def test_every_folder_of_tests_has_its_kind() -> None:
    page = (ROOT / "docs" / "testing.md").read_text()
    folders = {f"tests/{file.parent.name}" for file in ROOT.glob("tests/*/test_*.py")}
    assert {folder for folder in folders if f"`{folder}`" not in page} == set()


def test_every_group_of_tests_is_there() -> None:
    for path in GROUPS:
        assert (ROOT / path).exists(), path
    assert set(FIRST) <= set(GROUPS.values())


def test_every_example_is_listed_with_what_it_shows() -> None:
    graphs = json.loads((ROOT / "examples" / "langgraph.json").read_text())["graphs"]
    page = (ROOT / "examples" / "README.md").read_text()
    assert {name for name in graphs if f"[`{name}`]" not in page} == set()


def test_every_how_to_is_listed() -> None:
    pages = {page.name for page in (ROOT / "docs" / "how-to").glob("*.md")} - {"README.md"}
    listed = re.findall(
        r"^\| \[[^]]*\]\(([^)]*)\)", (ROOT / "docs/how-to/README.md").read_text(), re.M
    )
    assert sorted(listed) == sorted(pages)


def test_every_dependency_has_its_reason_and_an_exact_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = (ROOT / "docs" / "dependencies.md").read_text()
    exact = (ROOT / "constraints.txt").read_text().lower().replace("_", "-")
    extras = [each for extra in project["optional-dependencies"].values() for each in extra]
    for requirement in [*project["dependencies"], *extras]:
        named = re.match(r"[\w.-]+(\[[\w,]+\])?", requirement)
        assert named is not None
        assert f"| `{named[0]}` |" in page, requirement
        name = named[0].partition("[")[0]
        assert re.search(rf"^{re.escape(name)}==", exact, re.MULTILINE), requirement


def test_every_package_of_npm_has_its_reason_and_an_exact_version() -> None:
    packages = json.loads((ROOT / "tests" / "clients" / "package.json").read_text())["dependencies"]
    page = (ROOT / "docs" / "dependencies.md").read_text()
    for name, version in packages.items():
        assert f"`{name}`" in page, name
        assert re.fullmatch(r"(npm:[@/\w.-]+@)?\d+\.\d+\.\d+", version), name


def test_constraints_hold_names_and_versions_and_no_addresses() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"#.*|[\w.-]+==[\w.+!-]+", line), line
        assert "://" not in line


def test_the_changelog_knows_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_command_is_installed_under_the_name_that_the_documentation_uses() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["greenroom"].partition(":")
    shown = subprocess.run(
        [sys.executable, "-c", f"from {module} import {function} as f; f(['--help'])"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout
    assert "serve" in shown
