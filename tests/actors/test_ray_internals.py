"""The private parts of Ray that the server uses: each test says what breaks without one.

A failure here after an upgrade names the function in `actors/calls/ray_internals.py` to look at.
`tests/server/test_processes.py` (unused processes) and `tests/cluster` (the autoscaler) use them
with a real Ray.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import ray
import ray._private.node
import ray._private.worker
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply

from actors.calls import cluster, ray_internals
from actors.common.placement import Node, Refused
from actors.forking.program import MINIMAL, program_of_ray
from tests.fresh import run

ROOT = Path(__file__).parents[2]


class FakeClient:
    """The control service of a cluster with an autoscaler that has refused something."""

    reply: Any = GetClusterStatusReply()
    report: bytes | None = None

    def __init__(self, *, address: str) -> None:
        assert address == "gcs"

    def get_cluster_status(self, *, timeout_s: float) -> bytes:
        return self.reply.SerializeToString()

    def internal_kv_get(self, key: bytes, namespace: Any, *, timeout: float) -> bytes | None:
        assert key == ray_internals.MONITOR_STATUS_KEY
        return self.report


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> type[FakeClient]:
    class Context:
        gcs_address = "gcs"

    class Client(FakeClient):
        reply = GetClusterStatusReply()

    monkeypatch.setattr(ray_internals, "GcsClient", Client)
    monkeypatch.setattr(ray, "get_runtime_context", Context)
    monkeypatch.setattr(
        ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 4.0}}, {"Alive": False}]
    )
    return Client


def test_ray_says_what_its_autoscaler_can_never_satisfy(client: type[FakeClient]) -> None:
    """Else a run that no node can ever take waits for ever, and nobody says why."""
    state = client.reply.autoscaling_state
    state.autoscaler_state_version = 3
    plain = state.infeasible_resource_requests.add()
    plain.resources_bundle["GPU"] = 8.0
    labelled = state.infeasible_resource_requests.add()
    labelled.resources_bundle["CPU"] = 1.0
    labelled.label_selectors.add().label_constraints.add().label_key = "zone"
    view = cluster.cluster_view()
    assert view.nodes == (Node(resources={"CPU": 4.0}, labels={}),)
    assert view.autoscales
    assert view.refused == (
        Refused(resources={"GPU": 8.0}, labelled=False),
        Refused(resources={"CPU": 1.0}, labelled=True),
    )


@pytest.mark.parametrize(
    ("report", "autoscales"),
    [(None, False), (b'{"autoscaler_report": {"active_nodes": {"head": 1}}}', True)],
)
def test_a_cluster_without_an_autoscaler_has_no_state_of_one(
    client: type[FakeClient], report: bytes | None, autoscales: bool
) -> None:
    """Else an actor that no node has room for waits for a node that never comes."""
    client.report = report
    assert cluster.cluster_view().autoscales is autoscales
    assert cluster.cluster_view().refused == ()


def test_the_client_of_the_control_service_has_both_questions() -> None:
    """Else `autoscaler_state` raises on every cluster, and no server starts there."""
    raylet: Any = importlib.import_module("ray._raylet")
    # The client passes on what its inner one has.
    assert callable(raylet.GcsClient)
    assert callable(raylet.InnerGcsClient.get_cluster_status)
    assert callable(raylet.InnerGcsClient.internal_kv_get)


def test_a_node_starts_its_unused_processes_by_methods_that_can_be_replaced() -> None:
    """Else a local server does not start, or costs 150 MiB more."""
    node = ray._private.node.Node
    starts = ("start_monitor", "start_log_monitor", "start_api_server")
    own = [getattr(node, name) for name in starts]
    with ray_internals.without_unused_processes():
        for name, method in zip(starts, own, strict=True):
            without = getattr(node, name)
            assert without is not method
            assert inspect.signature(without).parameters.keys() >= {
                name for name in inspect.signature(method).parameters if name != "self"
            }
    assert [getattr(node, name) for name in starts] == own
    source = inspect.getsource(node.start_head_processes) + inspect.getsource(
        node.start_ray_processes
    )
    assert all(f"self.{name}(" in source for name in starts)


def test_an_agent_that_finds_no_dashboard_asks_for_ever() -> None:
    """Else the address that nobody answers at is not needed."""
    written: list[Any] = []
    node = SimpleNamespace(
        get_gcs_client=lambda: SimpleNamespace(internal_kv_put=lambda *put: written.append(put))
    )
    with ray_internals.without_unused_processes():
        ray._private.node.Node.start_api_server(
            cast(Any, node), include_dashboard=False, raise_on_failure=False
        )
    assert written == [(b"dashboard", b"127.0.0.1:9", True, b"dashboard")]
    run(
        "import inspect\n"
        "from ray.dashboard.modules.event.event_agent import EventAgent\n"
        "asking = inspect.getsource(EventAgent._get_dashboard_http_address)\n"
        "assert 'while True' in asking\n"
        "assert 'ray_constants.DASHBOARD_ADDRESS' in asking\n"
    )


def test_a_handle_of_serve_may_have_a_loop_of_its_own() -> None:
    """Else a `ServeChatModel` is bound to the loop that used it first (`greenroom.models`)."""
    run(
        "import inspect\n"
        "from ray.serve.handle import DeploymentHandle\n"
        "from ray.serve._private.default_impl import create_init_handle_options\n"
        "assert list(inspect.signature(DeploymentHandle._init).parameters) == ['self', 'kwargs']\n"
        "options = create_init_handle_options(_run_router_in_separate_loop=True)\n"
        "assert options._run_router_in_separate_loop\n"
    )


def test_processes_of_a_job_do_not_get_the_working_directory_of_its_starter() -> None:
    """Ray extends the list of the ``job_config`` that it was given, and passes it on."""
    job = ray_internals.job_without_search_path()
    assert job._py_driver_sys_path == []
    assert "job_config._py_driver_sys_path.extend(code_paths)" in inspect.getsource(
        ray._private.worker.connect
    )
    job._py_driver_sys_path.extend(["/somewhere"])
    assert list(job._get_proto_job_config().py_driver_sys_path) == []


def test_ray_starts_another_program_for_its_actors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else no process is forked, and a start takes three times the CPU."""
    services: Any = importlib.import_module("ray._private.services")
    node = importlib.import_module("ray._private.node").Node
    assert "worker_path" in inspect.signature(services.start_raylet).parameters
    assert "ray._private.services.start_raylet(" in inspect.getsource(node)
    program = Path(ray.__file__).parent / "_private" / "workers" / "default_worker.py"
    assert program_of_ray() == str(program)
    assert program.is_file()

    own = inspect.getsource(services.start_raylet)
    interpreter = "_build_python_executable_command_memory_profileable"
    # Each interpreter is followed by the path of the agent's program.
    for name in ("dashboard_agent_command = [", "runtime_env_agent_command = ["):
        assert own.split(name)[1].split("os.path.join(")[0].count(f"*{interpreter}(") == 1
    given: list[str] = []
    agents: list[list[str]] = []

    def start_raylet(gcs_address: str, worker_path: str, *, more: int) -> int:
        given.append(worker_path)
        agents.append([*getattr(services, interpreter)("dashboard_agent", "here"), "agent.py"])
        return more

    monkeypatch.setattr(services, "start_raylet", start_raylet)
    with ray_internals.starting_processes_by("ours.py", minimal=False):
        assert services.start_raylet("gcs", "theirs.py", more=3) == 3
    assert services.start_raylet("gcs", "theirs.py", more=4) == 4
    assert given == ["ours.py", "theirs.py"]
    python = [sys.executable, "-u"]
    assert agents == [[*python, "ours.py", "agent.py"], [*python, "agent.py"]]


def test_an_agent_without_the_dashboard_is_told_so_and_loads_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else it collects metrics that nobody reads: a tenth of an idle server's CPU, and 50 MiB."""
    services: Any = importlib.import_module("ray._private.services")
    utils: Any = importlib.import_module("ray._private.utils")
    own = inspect.getsource(services.start_raylet)
    asking = "if ray._private.utils.get_dashboard_dependency_error() is not None:"
    assert own.split(asking)[1].split(".append(")[1].startswith(f'"{MINIMAL}")')
    missing: list[bool] = []

    def start_raylet(worker_path: str) -> None:
        missing.append(utils.get_dashboard_dependency_error() is not None)

    monkeypatch.setattr(services, "start_raylet", start_raylet)
    for minimal in (True, False):
        with ray_internals.starting_processes_by("ours.py", minimal=minimal):
            services.start_raylet("theirs.py")
    assert missing == [True, False]
    assert utils.get_dashboard_dependency_error() is None
    run(
        "from actors.calls import ray_internals\n"
        "from ray.dashboard import utils\n"
        "ray_internals.leave_out_dashboard()\n"
        "assert utils.get_all_modules(utils.DashboardAgentModule) == []\n"
        "import pkgutil, ray.dashboard\n"
        "directory = ray.dashboard.__path__[0] + '/modules'\n"
        "assert any(pkgutil.iter_modules([directory])), 'what is left out'\n"
    )


def test_serve_is_asked_often() -> None:
    run(
        "import inspect\n"
        "from actors.calls import ray_internals\n"
        "from ray.serve._private import client\n"
        "waiting = client.ServeControllerClient._wait_for_application_running\n"
        "assert 'time.sleep(CLIENT_POLLING_INTERVAL_S)' in inspect.getsource(waiting)\n"
        "before = client.CLIENT_POLLING_INTERVAL_S\n"
        "with ray_internals.asking_serve_often(before / 4):\n"
        "    assert client.CLIENT_POLLING_INTERVAL_S == before / 4\n"
        "assert client.CLIENT_POLLING_INTERVAL_S == before\n"
    )


def test_agents_notice_the_end_of_their_raylet_by_a_pipe() -> None:
    """The parent of a fork is the fork server, whose end is not the raylet's."""
    run(
        "import os\n"
        "from actors.calls import ray_internals\n"
        "with ray_internals.starting_processes_by('ours.py', minimal=False):\n"
        "    assert os.environ[ray_internals.AGENTS_HEAR_BY_PIPE] == '1'\n"
        "from ray.dashboard import consts\n"
        "assert consts.PARENT_HEALTH_CHECK_BY_PIPE is True\n"
    )


def test_the_library_of_ray_reads_its_environment_while_it_is_loaded() -> None:
    """That is why the fork server imports Ray only when the first program asks."""
    run(
        "import os\n"
        "import ray\n"
        "from ray._raylet import Config\n"
        "before = Config.kill_worker_timeout_milliseconds()\n"
        "os.environ['RAY_kill_worker_timeout_milliseconds'] = str(before + 1)\n"
        "assert Config.kill_worker_timeout_milliseconds() == before\n"
    )


def test_a_replica_is_told_before_serve_waits_for_its_requests() -> None:
    """Else its streams go on until Serve kills it."""
    run(
        "import asyncio\n"
        "from types import SimpleNamespace\n"
        "import ray\n"
        "from ray.serve._private.replica import Replica, ReplicaActor\n"
        "from actors.calls import ray_internals\n"
        "assert callable(Replica.perform_graceful_shutdown)\n"
        "order = []\n"
        "class Implementation:\n"
        "    async def perform_graceful_shutdown(self):\n"
        "        order.append('ends')\n"
        "actor = object.__new__(ReplicaActor)\n"
        "actor._replica_impl = Implementation()\n"
        "worker = ray._private.worker\n"
        "assert {'actor_id', 'actors'} <= set(dir(worker.Worker()))\n"
        "worker.global_worker = SimpleNamespace(actor_id='own', actors={'own': actor})\n"
        "ray_internals.on_replacement(lambda: order.append('told'))\n"
        "asyncio.run(actor.perform_graceful_shutdown())\n"
        "assert order == ['told', 'ends']\n"
    )
