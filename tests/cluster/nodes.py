"""A Ray cluster of several nodes on this machine, and a PostgreSQL that all of them reach.

A node is `ray start --block` in a process group of its own: a raylet with its own resources, its
own workers and its own proxy. They share the machine, so that what two real nodes have of their own
and two processes cannot (ports) is given out here. To lose a node is to kill its whole tree.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

from greenroom.persistence.embedded import start_embedded
from tests.serving import free_port

START_PATIENCE_S = 120.0
DEATH_AFTER_S = 6.0
"""After so long without an answer Ray takes a node for dead here; 15 s are its own."""

FAKE_PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
"""By its path, as an operator names a provider of his own: Ray's wheel lacks the defaults that
belong to its short name."""

NO_COMMANDS = (
    *("initialization_commands", "setup_commands", "head_setup_commands"),
    *("worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands"),
)

RAY = Path(sys.executable).with_name("ray")


@dataclass
class RayNode:
    """One node.

    Attributes:
        name: a label `name` with this value leads to it, and so does a resource.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    frozen: list[psutil.Process] = field(default_factory=list)

    def tree(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        return []

    @property
    def raylet(self) -> psutil.Process:
        return next(p for p in self.tree() if p.name() == "raylet")

    def actors(self) -> list[psutil.Process]:
        """Its workers that have become actors, by their titles."""
        found = []
        for process in self.tree():
            with contextlib.suppress(psutil.NoSuchProcess, IndexError):
                if process.cmdline()[0].startswith("ray::"):
                    found.append(process)
        return found

    def kill(self) -> None:
        """The machine is gone: everything at once, the raylet first."""
        processes = self.tree()
        for process in sorted(processes, key=_raylet_first):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        psutil.wait_procs(processes, timeout=10)

    def freeze(self) -> None:
        """The machine does not answer for a while: every process of it is stopped."""
        self.frozen = self.tree()
        for process in self.frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        for process in self.frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
        self.frozen = []


def _raylet_first(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.name() != "raylet"
    return True


@dataclass
class RayCluster:
    """Nodes that were started here; the first one is the head.

    Attributes:
        address: of the head.
        dsn: of a PostgreSQL that every node reaches.
        environment: of every node and driver, with the token.
    """

    directory: Path
    address: str
    dsn: str
    environment: Mapping[str, str]
    nodes: dict[str, RayNode] = field(default_factory=dict)
    ever: list[RayNode] = field(default_factory=list)

    def add(
        self,
        name: str,
        *,
        cpus: float = 4,
        gpus: int = 0,
        arguments: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> RayNode:
        """Starts a node with a resource and a label of its name; returns when it has joined."""
        head = not self.ever
        where = ("--head", "--port", self.address.rpartition(":")[2]) if head else ()
        if head:
            system = {
                "health_check_initial_delay_ms": 0,
                "health_check_period_ms": 500,
                "health_check_timeout_ms": 1000,
                "health_check_failure_threshold": int(DEATH_AFTER_S / 0.5),
            }
            where += (
                *("--temp-dir", str(self.directory), "--include-dashboard", "false"),
                *("--ray-client-server-port", str(free_port())),
                *("--system-config", json.dumps(system)),
            )
        else:
            where += ("--address", self.address)
        command = [
            *(str(RAY), "start", *where, "--block", "--disable-usage-stats"),
            *("--num-cpus", f"{cpus:g}", "--num-gpus", str(gpus)),
            *("--resources", json.dumps({name: 100}), "--labels", f"name={name}"),
            *("--object-store-memory", str(80 * 1024 * 1024)),
            *("--min-worker-port", "0", "--max-worker-port", "0"),
            *("--dashboard-agent-listen-port", str(free_port())),
            # Nobody reads what it would show; both nodes' logs are this machine's.
            *("--include-log-monitor", "false"),
            *arguments,
        ]
        deadline_s = time.monotonic() + START_PATIENCE_S
        while True:
            node = self._started(name, command, environment or {})
            try:
                _wait_until_joined(node, deadline_s)
            except AssertionError as error:
                # Ray gives a node 30 s, which cannot be set, and a busy machine needs more.
                if head or "timed out during startup" not in str(error):
                    raise
                node.kill()
            else:
                return node

    def _started(
        self, name: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> RayNode:
        log = self.directory / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment, **environment},
                start_new_session=True,
            )
        node = self.nodes[name] = RayNode(name, process, log)
        self.ever.append(node)
        return node

    def add_autoscaling_head(self, name: str, types: Mapping[str, Mapping[str, Any]]) -> RayNode:
        """The head of a cluster to which Ray's autoscaler adds nodes, as processes of the head's.

        Args:
            types: per type of node, its resources and at most how many of them.
        """
        config = {
            "cluster_name": "fake",
            "max_workers": 4,
            "upscaling_speed": 1.0,
            "idle_timeout_minutes": 0.05,
            "provider": {
                "type": "external",
                "module": FAKE_PROVIDER,
                "use_node_id_as_ip": True,
                "disable_node_updaters": True,
                "disable_launch_config_check": True,
                "launch_multiple": True,
                "head_node_id": FAKE_HEAD_NODE_ID,
                "gcs_address": self.address,
            },
            **{key: [] for key in NO_COMMANDS},
            "auth": {},
            "docker": {},
            "file_mounts": {},
            "cluster_synced_files": [],
            "head_node_type": "ray.head.default",
            "available_node_types": {
                "ray.head.default": {"resources": {}, "node_config": {}, "max_workers": 0},
                **{
                    kind: {"node_config": {}, "min_workers": 0, **about}
                    for kind, about in types.items()
                },
            },
        }
        file = self.directory / "autoscaling.yaml"
        file.write_text(json.dumps(config))
        environment = {
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
        }
        arguments = ("--autoscaling-config", str(file))
        return self.add(name, arguments=arguments, environment=environment)

    def lose(self, name: str) -> None:
        self.nodes.pop(name).kill()

    def stop(self) -> None:
        for node in reversed(self.ever):
            node.thaw()
            node.kill()


def _wait_until_joined(node: RayNode, deadline_s: float) -> None:
    while time.monotonic() < deadline_s:
        said = node.log.read_text()
        if "Ray runtime started" in said:
            return
        if node.process.poll() is not None:
            break
        time.sleep(0.1)
    raise AssertionError(f"The node {node.name} did not start:\n{node.log.read_text()}")


@contextlib.contextmanager
def ray_cluster(
    data: Path, *, environment: Mapping[str, str] | None = None
) -> Iterator[RayCluster]:
    """A database and no node yet; ends whatever was added.

    Args:
        data: where the database lives.
        environment: more of it, for every node and driver.
    """
    # Short, because Ray puts Unix sockets below it, whose paths are limited to 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="gr-nodes-"))
    database = start_embedded(data / "pg", linger_s=0)
    cluster = RayCluster(
        directory=directory,
        address=f"127.0.0.1:{free_port()}",
        dsn=database.dsn,
        environment={
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": os.urandom(16).hex(),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_SERVE_ENABLE_HA_PROXY": "0",
            "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",
            "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "1",
            # Nodes of one machine cannot all have the proxy's port.
            "RAY_SERVE_WORKER_PROXY_HTTP_PORT": str(free_port()),
            **(environment or {}),
        },
    )
    try:
        yield cluster
    finally:
        cluster.stop()
        database.stop()
        shutil.rmtree(directory, ignore_errors=True)
