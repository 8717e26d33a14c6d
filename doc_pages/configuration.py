"""Makes docs/configuration.md from the keys that `greenroom.graphs.configuration` accepts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from inspect import getdoc

from greenroom.graphs.configuration import (
    BUILD_ONLY,
    CHECKPOINTER_NOT_HONOURED,
    FILE_NAME,
    NOT_HONOURED,
)
from greenroom.graphs.placements import MINIMUM, PlacementSpec

_TOP = {
    "graphs": "Names the graphs: `./file.py:attribute`, `package.module:attribute`, or an object"
    " with such a `path` and a `description`, which its assistant has. The attribute is a compiled"
    " graph, a `StateGraph`, or a function that returns one.",
    "dependencies": "Folders, which begin with a dot, become importable, and `src` in them too."
    " Packages are not installed: they are expected to be there.",
    "env": "Variables for the graphs' processes: an object, or the name of a `.env` file, as"
    " python-dotenv reads it: `${NAME}` stands for a variable above it, or of the environment."
    " A file that does not exist is a note and no error: git ignores it, so a clone has none."
    " `LANGGRAPH_CONFIG`, here or in the environment, has the defaults of each graph:"
    ' `{"agent": {"configurable": {"model": "small"}, "recursion_limit": 50}}`.',
    "store": "The store of items. `index` is for searches by meaning: `embed` is"
    " `./file.py:function` or `provider:model`, `dims` the length of its vectors, `fields` the"
    " paths of the texts (default: the whole value). `ttl` has `default_ttl`,"
    " `sweep_interval_minutes` (default 5) and `refresh_on_read` (default"
    " `true`), see [memory](how-to/memory.md)."
    " `path`, a store of your own, has no effect.",
    "checkpointer": "`ttl` is the time to live of threads: `default_ttl` (minutes from the last"
    " change, for threads that are made from now on without their own, also by runs),"
    " `strategy` (`delete`, or `keep_latest`: all but the newest checkpoints go),"
    " `sweep_interval_minutes` (default: `GREENROOM_SWEEP_INTERVAL_S`) and `sweep_limit` (threads"
    " of one sweep, default 1000)."
    " `serde` says which values of states are kept. `allowed_msgpack_modules` is a"
    ' list of types such as `[["my_package.my_module", "MyClass"]]`, true for all types (the'
    " default), or null for those that LangGraph knows. A value of another type is refused in the"
    " node that returned it. `pickle_fallback` says whether a value that msgpack does not give back"
    " is pickled: by default only where all types are allowed. `allowed_json_modules` is about"
    " checkpoints in LangGraph's older JSON format.",
    "auth": "Who may use the server, and what of it. `path` is `./file.py:attribute` or"
    " `package.module:attribute` of a `langgraph_sdk.Auth`, see [users](how-to/users.md), or"
    " [`greenroom.auth:api_keys`](how-to/api-keys.md), or"
    " [`greenroom.auth:jwt`](how-to/single-sign-on.md). `cache` keeps users: `cache_keys` are the"
    " names of the headers that decide (default: `authorization` and `x-api-key`), `ttl_seconds`"
    " (default 60), `max_size` (default 1000). `openapi` has `securitySchemes`, `security` and"
    " `paths` for `/openapi.json`. `disable_studio_auth` may be `true`, and is so in any case. An"
    " unknown key is an error. Unset: everybody is let in.",
    "http": "`openai: true` serves the routes of OpenAI's API, see [OpenAI"
    " clients](how-to/openai-client.md). `app` is a Starlette or FastAPI application,"
    " `./file.py:attribute`, whose routes and"
    " middleware are served too. `mount_prefix` is a path that everything is below."
    " `configurable_headers` and `logging_headers` select headers by `includes` and `excludes`, for"
    " runs and for the log. `disable_assistants`, `_threads`, `_runs`, `_store`, `_mcp`, `_a2a`,"
    " `_meta`, `_ui` and `_webhooks` switch parts off. `middleware_order` is `middleware_first` or"
    " `auth_first`; with `enable_custom_route_auth` your routes need authentication, too. See"
    " [routes of your own](how-to/custom-routes.md). `cors` has Starlette's"
    " keys (`allow_origins`, `allow_origin_regex`, `allow_methods`,"
    " `allow_headers`, `allow_credentials`, `expose_headers`, `max_age`); an absent one has the"
    " server's own value, and credentials are off where every origin is let in, see"
    " [security](security.md).",
    "webhooks": "Headers and URLs of webhooks: `headers`, whose values may name variables as"
    " `${{ env.LG_WEBHOOK_NAME }}`, `env_prefix`, which begins these names, and `url` with"
    " `require_https` (default `true` where `url` is), `allowed_domains`, `allowed_ports`,"
    " `max_url_length` and `disable_loopback` (default `true`), see"
    " [webhooks](how-to/webhooks.md).",
    "encryption": "`path` names handlers of yours that encrypt state, a `langgraph_sdk.Encryption`:"
    " [state at rest](deploy.md#state-at-rest).",
    "greenroom": "The section that this page is about.",
}
"""The keys of a `langgraph.json` that have an effect, in the words of the page."""

_SECTION = {
    "graphs": "By the name of a graph: where its runs are executed, see below.",
    "defaults": "The same keys, for every graph that does not say otherwise.",
    "default_graph": "The graph of requests below `/api` that name none. Unset: the only graph, if"
    " there is one only.",
    "applications": "Ray Serve applications to deploy beside the server, by name:"
    " `package.module:application`. Models above all, see [GPUs](gpu.md).",
    "shipped_graphs": "`true` lets graphs come by value, from notebooks; default `false`.",
}

_EXAMPLE = """\
{
  "dependencies": ["."],
  "graphs": {
    "agent": "./agent.py:graph",
    "painter": {"path": "./painter.py:graph", "description": "Paints what it is told."}
  },
  "env": ".env",
  "greenroom": {
    "default_graph": "agent",
    "defaults": {"timeout_s": 600},
    "graphs": {
      "agent": {"runs_per_actor": 100, "max_actors": 2},
      "painter": {"num_gpus": 1, "max_actors": 1, "memory_mib": 16384}
    }
  }
}"""


def document() -> str:
    """Returns the text of docs/configuration.md; ``make settings`` writes it, a test compares it.

    The meaning of a key of a placement comes from the docstring of `PlacementSpec`.
    """
    of_checkpointer = {
        f"checkpointer.{key}": text for key, text in CHECKPOINTER_NOT_HONOURED.items()
    }
    lines = [
        "# Configuration",
        "",
        "<!-- Written by `make settings` from greenroom/graphs; do not edit by hand. -->",
        "",
        f"`{FILE_NAME}`, as people have it, names the graphs; a section of ours, which other"
        " servers ignore,",
        "says where their runs are executed. What belongs to the server rather than to a graph"
        " stands in",
        "[settings](settings.md). `greenroom check` reads the file and says what is wrong with it."
        " It also notes",
        "what the Platform would refuse, which is no failure here: no `dependencies`, a"
        " `python_version` before",
        "3.11, values of `env` that are no strings.",
        "",
        "```json",
        *_EXAMPLE.splitlines(),
        "```",
        "",
        "## The `greenroom` section",
        "",
        "An unknown key in it, or a value that cannot be meant, is an error that says what is"
        " allowed.",
        "",
        *_rows(("key", "meaning"), ((f"`{key}`", text) for key, text in _SECTION.items())),
        "",
        "### Placements",
        "",
        "Keys of `greenroom.graphs.<graph>` and of `greenroom.defaults`. Units are in the names:"
        " `_s` are",
        "seconds, `_mib` are mebibytes. Graphs whose placements ask for the same share one pool of"
        " actors;",
        "`timeout_s` and `max_attempts` may differ within a pool.",
        "",
        *_rows(("key", "default", "least", "meaning"), _placement_rows()),
        "",
        "## The rest of the file",
        "",
        *_rows(("key", "meaning"), ((f"`{key}`", text) for key, text in _TOP.items())),
        "",
        "These have no effect, and `greenroom serve` and `check` say so in a note:",
        "",
        *_rows(
            ("key", "what is so instead"),
            (
                (f"`{key}`", _instead(key, text))
                for key, text in {**NOT_HONOURED, **of_checkpointer}.items()
            ),
        ),
        "",
        "These are about making images, and are passed over in silence (`python_version` is noted"
        " when it is",
        f"not the one that runs): {', '.join(f'`{key}`' for key in BUILD_ONLY)}.",
        "Any other key is noted as unknown.",
    ]
    return "\n".join([*lines, ""])


def _placement_rows() -> Iterator[tuple[str, str, str, str]]:
    attributes = (getdoc(PlacementSpec) or "").partition("Attributes:")[2]
    # One begins four spaces in, and goes on eight spaces in.
    meanings = dict(re.findall(r"^ {4}(\w+): (.+(?:\n {8}.*)*)", attributes, re.MULTILINE))
    default = PlacementSpec()
    for item in fields(PlacementSpec):
        value = getattr(default, item.name)
        shown = f"{value:g}" if isinstance(value, float) else str(value) or '""'
        least = str(MINIMUM.get(item.name, 0)) if isinstance(value, int | float) else ""
        text = " ".join(meanings[item.name].split()).replace("``", "`").rstrip(".")
        yield f"`{item.name}`", f"`{shown}`", least, f"{text[0].upper()}{text[1:]}."


def _instead(key: str, sentence: str) -> str:
    text = sentence.removeprefix(f"'{key}' is set, but ")
    return text[0].upper() + text[1:]


def _rows(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    print(document(), end="")
