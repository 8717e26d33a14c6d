"""What `greenroom new` and `greenroom examples` write: a project to begin with, and the examples.

The graphs of a new project are examples under another name, so that there is one home for them. In
a checkout the examples lie beside this package; the wheel has them in it (pyproject.toml).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from greenroom.core.errors import ConfigurationError

PACKAGE = "greenroom_examples"
GRAPH = "agent"
HELLO: Mapping[str, Any] = {
    "input": {"messages": [{"role": "user", "content": "Hello"}]},
    "stream_mode": "messages-tuple",
}


class Template(StrEnum):
    """What a new project can begin with, named after the example that its graph is."""

    CHAT = "chat"
    TOOLS = "tools"
    APPROVAL = "approval"
    OPENAI = "openai"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Content:
    """What is in a project.

    Attributes:
        shows: a sentence for its README.
        modules: of the examples; the first one has the graph.
        request: what a first run is asked, without its assistant.
        expects: what the project's test expects of the output of that run.
        needs: a variable without which that test is skipped; empty for none.
    """

    shows: str
    modules: tuple[str, ...]
    request: Mapping[str, Any]
    expects: str
    needs: str = ""


CONTENTS: Mapping[Template, _Content] = {
    Template.CHAT: _Content(
        shows="A conversation. Its model is a fake one, which needs no key and streams words.",
        modules=("chat", "fake_model"),
        request=HELLO,
        expects="""assert "You said: 'Hello'" in output["messages"][-1].content""",
    ),
    Template.TOOLS: _Content(
        shows="An agent with real tools. Its model is a fake one, which needs no key.",
        modules=("tools", "fake_model"),
        request={
            "input": {
                "messages": [
                    {"role": "user", "content": "What is 6 times 7, and the weather in Oslo?"}
                ]
            },
            "stream_mode": "messages-tuple",
        },
        expects="""assert any(message.content == "42" for message in output["messages"])""",
    ),
    Template.APPROVAL: _Content(
        shows="A refund that a human approves: the run stops at a question, another one answers.",
        modules=("approval",),
        request={"input": {"customer": "Ada", "amount": 250}, "stream_mode": "updates"},
        expects="""assert "Refund 250 to Ada?" in output["__interrupt__"][0].value["question"]""",
    ),
    Template.OPENAI: _Content(
        shows="A conversation with a real model: put OPENAI_API_KEY, or the OPENAI_BASE_URL of a"
        " server of yours, into .env.",
        modules=("openai",),
        request=HELLO,
        expects="""assert output["messages"][-1].content""",
        needs="OPENAI_API_KEY",
    ),
}

README = """\
# {name}

{shows}

`agent/{module}.py` has the graph, `langgraph.json` names it.

## Serve it

In the environment in which Greenroom is installed:

```sh
pip install -e .      # what else the project needs, once there is any
greenroom check       # imports the graph, and says what is wrong with it
greenroom serve       # until Ctrl-C; the data stays in .greenroom/
greenroom dev         # the same while you write: the next run has what you have saved
```

`tests/test_agent.py` asks the graph without a server: `pip install pytest`, `python -m pytest`.

## Talk to it

```sh
curl -N http://127.0.0.1:8000/runs/stream \\
  -H 'content-type: application/json' \\
  -d '{request}'
```

The API is LangGraph's: its SDKs and clients work as they are. A running server shows it under
<http://127.0.0.1:8000/docs>.

## Go on

- Variables of the graph, e.g. keys, belong into `.env`, which git ignores; `.env.example` lists
  them.
- Packages that it imports belong into `dependencies` of `pyproject.toml`.
- How many processes it may have, with how many CPUs, is said in `langgraph.json`:
  `"greenroom": {{"graphs": {{"agent": {{"warm": 2, "max_actors": 8}}}}}}`
"""

TEST = """\
\"\"\"The graph, without a server.\"\"\"

import asyncio
{imports}
from agent.{module} import graph

GIVEN = {given}


{mark}def test_it_answers() -> None:
    output = asyncio.run(graph.ainvoke(GIVEN))
    {expects}
"""

ENVIRONMENT = """\
# What the graph finds in its environment. Copy this file to .env, which langgraph.json names and
# git ignores, and start the server again after a change.
# OPENAI_API_KEY=
# OPENAI_BASE_URL=http://127.0.0.1:11434/v1
# OPENAI_MODEL=gpt-4o-mini
"""

IGNORED = """\
.env
.greenroom/
.venv/
__pycache__/
*.egg-info/
"""

PYPROJECT = """\
[project]
name = "{name}"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["greenroom", "langgraph"]

[tool.setuptools]
packages = ["agent"]

[tool.pytest.ini_options]
pythonpath = ["."]
"""


def project_files(name: str, template: Template) -> dict[str, str]:
    """The files of a new project: their contents by path.

    Args:
        name: of the folder; the project is called like it, as far as a package can be.
    """
    content = CONTENTS[template]
    module = content.modules[0]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._") or GRAPH
    request = json.dumps({"assistant_id": GRAPH, **content.request})
    configuration = {
        "dependencies": ["."],
        "graphs": {GRAPH: f"./agent/{module}.py:graph"},
        "env": ".env",
    }
    examples = examples_folder() / PACKAGE
    return {
        "README.md": README.format(name=name, shows=content.shows, module=module, request=request),
        "langgraph.json": json.dumps(configuration, indent=2) + "\n",
        "pyproject.toml": PYPROJECT.format(name=name),
        ".gitignore": IGNORED,
        ".env.example": ENVIRONMENT,
        # Without it every command would note that it is missing.
        ".env": ENVIRONMENT,
        "agent/__init__.py": "",
        "tests/test_agent.py": _test(content),
        **{
            f"agent/{each}.py": (examples / f"{each}.py").read_text(encoding="utf-8")
            for each in content.modules
        },
    }


def _test(content: _Content) -> str:
    skips = content.needs and (
        f'@pytest.mark.skipif(not os.environ.get("{content.needs}"), reason="needs'
        f' {content.needs}")\n'
    )
    return TEST.format(
        imports="import os\n\nimport pytest\n" if skips else "",
        module=content.modules[0],
        mark=skips,
        given=json.dumps(content.request["input"], indent=4),
        expects=content.expects,
    )


def example_files() -> dict[str, str]:
    """The examples with their configurations: contents by path."""
    folder = examples_folder()
    return {
        str(file.relative_to(folder)): file.read_text(encoding="utf-8")
        for file in sorted(_sources(folder))
    }


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Writes files into a folder, which is made if need be; all of them, or none.

    Raises:
        ConfigurationError: one is there already, or the folder cannot be written.
    """
    try:
        taken = [name for name in files if (folder / name).is_symlink() or (folder / name).exists()]
        if taken:
            raise ConfigurationError(
                f"{folder} has {_listed(taken)} already, and nothing is overwritten: name another"
                f" folder, or move {'it' if len(taken) == 1 else 'them'} away."
            )
        for name, content in files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8") as opened:
                opened.write(content)
    except OSError as error:
        raise ConfigurationError(
            f"{error.filename or folder} cannot be written ({error.strerror}); name another folder."
        ) from None


def examples_folder() -> Path:
    """Where the examples are: in this package, or, in a checkout, beside it."""
    package = Path(__file__).parent
    return next(
        folder
        for folder in (package / "examples", package.parent / "examples")
        if (folder / PACKAGE).is_dir()
    )


def _sources(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if file.suffix in {".py", ".json", ".md"} and not hidden:
            yield file


def _listed(names: list[str], most: int = 3) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
