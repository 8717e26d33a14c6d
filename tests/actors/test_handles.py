"""What a process loads that only has a handle."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from actors.handles import _INSPECTOR_GROUPS, _RUN_GROUPS
from actors.inspector import Inspector
from actors.run import RunActor

LOADED = """
import sys
from ray import cloudpickle
from actors import handles, registry

for made in (handles._run_actor_class, handles._inspector_class):
    loaded = cloudpickle.loads(cloudpickle.dumps(made().__ray_metadata__.modified_class))
    assert callable(loaded.alive)
print({name.partition(".")[0] for name in sys.modules} & {"langgraph", "langchain_core"})
"""


def test_who_has_a_handle_of_an_actor_with_graphs_does_not_load_langgraph() -> None:
    """The registry would be a second slower at every restart, a gateway at its first run."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("actor", "groups"), [(RunActor, _RUN_GROUPS), (Inspector, _INSPECTOR_GROUPS)]
)
def test_every_method_of_an_actor_has_its_group(actor: type, groups: dict[str, list[str]]) -> None:
    methods = {
        name
        for name, method in inspect.getmembers(actor, inspect.iscoroutinefunction)
        if not name.startswith("_")
    }
    assert {name for names in groups.values() for name in names} == methods
