"""What a process loads that only has a handle."""

from __future__ import annotations

import inspect
import subprocess
import sys

from actors.handles import _RUN_GROUPS
from actors.run import RunActor

LOADED = """
import sys
from ray import cloudpickle
from actors import handles, registry

placed = handles._run_actor_class().__ray_metadata__.modified_class
loaded = cloudpickle.loads(cloudpickle.dumps(placed))
assert loaded.__name__ == "RunActor" and callable(loaded.start_many)
print({name.partition(".")[0] for name in sys.modules} & {"langgraph", "langchain_core"})
"""


def test_who_has_a_handle_of_a_run_actor_does_not_load_langgraph() -> None:
    """The registry would be a second slower at every restart, a gateway at its first run."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "set()"


def test_every_method_of_a_run_actor_has_its_group() -> None:
    methods = {
        name
        for name, method in inspect.getmembers(RunActor, inspect.iscoroutinefunction)
        if not name.startswith("_")
    }
    assert {name for names in _RUN_GROUPS.values() for name in names} == methods
