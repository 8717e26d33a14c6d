"""What clusters are made from is read by those who would read it: Ray's and Serve's validators."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from greenroom import environment
from greenroom.core.errors import ConfigurationError
from greenroom.settings import Settings, refuse_unknown
from tests.later import Later

if TYPE_CHECKING:
    from ray.serve import schema

    from actors.server import server
else:
    schema = Later("ray.serve.schema")
    server = Later("actors.server.server")

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
LAUNCHER: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
KUBERAY: dict[str, Any] = yaml.safe_load((DEPLOY / "kuberay.yaml").read_text())
RAY_CLUSTER: dict[str, Any] = KUBERAY["spec"]["rayClusterConfig"]
SECRETS = {"GREENROOM_DATABASE_URL", "RAY_AUTH_TOKEN"}


def serve_configs() -> dict[str, dict[str, Any]]:
    return {
        "serve.yaml": yaml.safe_load((DEPLOY / "serve.yaml").read_text()),
        "kuberay.yaml": yaml.safe_load(KUBERAY["spec"]["serveConfigV2"]),
    }


def pods() -> dict[str, dict[str, Any]]:
    groups = {group["groupName"]: group for group in RAY_CLUSTER["workerGroupSpecs"]}
    groups["head"] = RAY_CLUSTER["headGroupSpec"]
    return {name: group["template"]["spec"]["containers"][0] for name, group in groups.items()}


def node_environment(home: Path) -> dict[str, str]:
    """What a shell that has read deploy/node.env gives to `ray start`."""
    command = f"set -a; . {shlex.quote(str(DEPLOY / 'node.env'))}; env -0"
    bare = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    found = subprocess.run(["sh", "-c", command], env=bare, capture_output=True, check=True)
    pairs = (line.split("=", 1) for line in found.stdout.decode().split("\0") if "=" in line)
    return {name: value for name, value in pairs if name.startswith(("RAY_", "GREENROOM_"))}


def test_ray_accepts_the_launchers_file() -> None:
    prepared = prepare_config(LAUNCHER)
    validate_config(prepared)


def test_the_launchers_file_has_a_head_and_workers_that_come_and_go_with_and_without_gpus() -> None:
    types = LAUNCHER["available_node_types"]
    workers = {name: kind for name, kind in types.items() if name != LAUNCHER["head_node_type"]}
    assert all(kind["max_workers"] > kind["min_workers"] for kind in workers.values())
    assert sum(kind["max_workers"] for kind in workers.values()) <= LAUNCHER["max_workers"]
    gpus = {name: kind["resources"].get("GPU", 0) for name, kind in workers.items()}
    assert sorted(gpus.values()) == [0, 1]


def test_the_same_code_and_environment_reach_every_node_before_ray_starts() -> None:
    mounts = LAUNCHER["file_mounts"]
    [app] = [remote for remote, local in mounts.items() if local == "."]
    assert app == "/home/ubuntu/app"
    starts = LAUNCHER["head_start_ray_commands"] + LAUNCHER["worker_start_ray_commands"]
    assert all(command.startswith(". ~/app/deploy/node.env &&") for command in starts)
    assert any("constraints.txt" in command for command in LAUNCHER["setup_commands"])


def test_no_secret_stands_in_a_file() -> None:
    outside = {"/home/ubuntu/greenroom.env", "/home/ubuntu/.ray/auth_token"}
    assert all(LAUNCHER["file_mounts"][path].startswith("~/") for path in outside)
    for file in [ROOT / "cluster.yaml", *DEPLOY.iterdir()]:
        assert re.findall(r"postgres(?:ql)?://[^.\s`]+@", file.read_text()) == [], file.name
        assert not re.search(r"(TOKEN|PASSWORD)\s*[=:]\s*[\"']?\w", file.read_text()), file.name


def test_nodes_have_the_environment_that_a_local_ray_would_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for ports and paths, which only two servers on one machine must not share, for the
    connections that its open files allow, and for the second gateway, which stands by on one
    machine and has a node of its own here."""
    monkeypatch.setattr(environment, "haproxy_available", lambda: True)
    ours = environment.ray_environment(Settings.read())
    own = re.compile(r"_PORT$|SOCKET|FILE|BASE|NBTHREAD|BALANCE|MAXCONN|TOKEN")
    shared = {name: value for name, value in ours.items() if not own.search(name)}
    node = node_environment(tmp_path)
    assert {name: node.get(name) for name in shared} == shared
    assert node["RAY_AUTH_MODE"] == "token"
    refuse_unknown(node)


def test_the_database_comes_from_a_file_of_its_own(tmp_path: Path) -> None:
    assert "GREENROOM_DATABASE_URL" not in node_environment(tmp_path)
    (tmp_path / "greenroom.env").write_text("export GREENROOM_DATABASE_URL=postgresql://db/x\n")
    assert node_environment(tmp_path)["GREENROOM_DATABASE_URL"] == "postgresql://db/x"


@pytest.mark.parametrize("name", ["serve.yaml", "kuberay.yaml"])
def test_serve_accepts_the_configuration_of_the_application(name: str) -> None:
    config = schema.ServeDeploySchema.model_validate(serve_configs()[name])
    [application] = config.applications
    assert (application.name, application.import_path) == (server.APPLICATION, "serve_app:app")
    [gateway] = application.deployments
    assert gateway.name == "gateway"
    # A node whose actors reserve nothing is idle to the autoscaler.
    assert gateway.ray_actor_options.num_cpus > 0  # type: ignore[union-attr]


def test_every_pod_has_the_environment_of_a_node_and_its_secrets(tmp_path: Path) -> None:
    node = node_environment(tmp_path)
    for name, container in pods().items():
        given = {each["name"]: each for each in container["env"]}
        assert set(given) >= set(node) | SECRETS, name
        for key in set(node) - {"GREENROOM_CONFIG"}:
            assert given[key]["value"] == node[key], (name, key)
        for key in SECRETS:
            assert "secretKeyRef" in given[key]["valueFrom"], (name, key)
        refuse_unknown(given)


def test_kubernetes_has_an_autoscaler_a_fault_tolerant_gcs_probes_and_metrics() -> None:
    assert RAY_CLUSTER["enableInTreeAutoscaling"] is True
    assert RAY_CLUSTER["autoscalerOptions"]["version"] == "v2"
    assert "redisAddress" in RAY_CLUSTER["gcsFaultToleranceOptions"]
    assert pods()["gateway"]["readinessProbe"]["httpGet"] == {"path": "/ok", "port": 8000}
    for name, container in pods().items():
        assert {"name": "metrics", "containerPort": 8080} in container["ports"], name
    assert "nvidia.com/gpu" in pods()["gpu"]["resources"]["limits"]
    assert len({container["image"] for container in pods().values()}) == 1


def test_there_is_a_pod_for_every_gateway() -> None:
    [application] = serve_configs()["kuberay.yaml"]["applications"]
    [deployment] = application["deployments"]
    [group] = [g for g in RAY_CLUSTER["workerGroupSpecs"] if g["groupName"] == "gateway"]
    assert deployment["num_replicas"] == group["minReplicas"] == group["maxReplicas"]
    assert deployment["max_replicas_per_node"] == 1
    assert '\\"gateway\\": 1' in group["rayStartParams"]["resources"]


def test_versions_are_those_that_are_installed_everywhere() -> None:
    exact = dict(
        re.findall(r"^([\w.-]+)==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    )
    assert RAY_CLUSTER["rayVersion"] == exact["ray"]
    assert f"FROM rayproject/ray:{exact['ray']}-py311" in (DEPLOY / "Dockerfile").read_text()


def test_no_service_of_kubernetes_is_taken_for_a_setting() -> None:
    """Else a pod beside a service greenroom-redis has GREENROOM_REDIS_PORT, which is refused."""
    with pytest.raises(ConfigurationError, match="GREENROOM_REDIS_PORT is not a setting"):
        refuse_unknown(["GREENROOM_REDIS_PORT"])
    groups = [RAY_CLUSTER["headGroupSpec"], *RAY_CLUSTER["workerGroupSpecs"]]
    assert [group["template"]["spec"]["enableServiceLinks"] for group in groups] == [False] * 4


# --- the image ------------------------------------------------------------------------------------

STAGES = [
    re.findall(r"^([A-Z]+) (.*)$", re.sub(r"\\\n\s*", "", stage), re.MULTILINE)
    for stage in re.split(r"^(?=FROM )", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)[
        1:
    ]
]


def test_the_wheel_of_the_image_is_made_of_what_a_wheel_needs() -> None:
    """And all of it may leave the checkout (.dockerignore), and nothing else."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    build, final = STAGES
    copied = {
        source
        for stage in (build, final)
        for kind, words in stage
        if kind == "COPY" and "--from" not in words
        for source in [word for word in words.split() if not word.startswith("--")][:-1]
    }
    assert copied == {"pyproject.toml", "constraints.txt", "README.md", "LICENSE", *wheel}
    allowed = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert set(allowed) == copied
    assert all((ROOT / source).exists() for source in copied)


def test_the_image_serves_as_a_user_without_rights_and_says_how_it_is() -> None:
    final = dict(STAGES[-1])
    assert final["USER"] == "ray"
    assert "http://127.0.0.1:$GREENROOM_PORT/ok" in final["HEALTHCHECK"]
    assert json.loads(final["CMD"]) == ["greenroom", "serve"]
    variables = dict(word.split("=", 1) for word in final["ENV"].split())
    refuse_unknown(variables)
    assert variables["GREENROOM_CONFIG"] == "/home/ray/app/examples/langgraph.json"
    assert variables["GREENROOM_DATA_DIR"] == final["VOLUME"]
    assert variables["GREENROOM_PORT"] == final["EXPOSE"]


def test_the_health_check_of_the_image_is_a_command_that_asks() -> None:
    """Of a server that answers it says 0, of a closed port not."""
    command = dict(STAGES[-1])["HEALTHCHECK"].partition("CMD ")[2]

    class Ok(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/ok" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    def asked(port: int) -> int:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "GREENROOM_PORT": str(port), "PATH": path}
        return subprocess.run(
            ["sh", "-c", command], env=environment, stderr=subprocess.DEVNULL
        ).returncode

    server = HTTPServer(("127.0.0.1", 0), Ok)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        assert asked(server.server_port) == 0
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert asked(server.server_port) != 0
