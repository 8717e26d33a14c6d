"""The script in HAProxy's place, on the configuration that Ray Serve's template makes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from greenroom import haproxy_wrapper
from greenroom.environment import ray_environment
from greenroom.haproxy_wrapper import find_haproxy, write_wrapper
from greenroom.settings import Settings

CONFIGURATION = """\
global
    maxconn 100
defaults
    mode http
    timeout client 1s
    timeout server 1s
    timeout connect 1s
frontend prometheus
    bind :23402
    mode http
frontend http_frontend
    bind 127.0.0.1:23400
    bind 127.0.0.1:23403
    log global
listen stats
  bind *:23401
  stats enable
"""
TEMPLATE_LINES = (
    "frontend prometheus\n    bind :{{ config.metrics_port }}\n",
    "frontend http_frontend\n    bind {{ config.frontend_host }}:{{ config.frontend_port }}\n",
    "listen stats\n  bind *:{{ config.stats_port }}\n",
)


def test_rays_template_has_the_lines_that_are_changed() -> None:
    shown = (
        "from ray.serve._private import haproxy_templates as t; print(t.HAPROXY_CONFIG_TEMPLATE)"
    )
    template = subprocess.run(
        [sys.executable, "-c", shown], capture_output=True, text=True, check=True
    ).stdout
    for line in TEMPLATE_LINES:
        assert line in template


@pytest.mark.skipif(find_haproxy() is None, reason="there is no HAProxy")
def test_haproxy_turns_from_a_gateway_that_does_not_answer_with_every_ray() -> None:
    """Up to 2.59 Serve has it wait without end, unless it is told."""
    shown = (
        "from ray.serve._private.haproxy import HAProxyConfig;"
        "print(HAProxyConfig().timeout_connect_s)"
    )
    told = {**os.environ, **ray_environment(Settings.read())}
    found = subprocess.run(
        [sys.executable, "-c", shown], env=told, capture_output=True, text=True, check=True
    )
    assert found.stdout.split()[-1:] == ["5"]


@pytest.mark.skipif(find_haproxy() is None, reason="there is no HAProxy")
def test_what_listens_everywhere_listens_on_loopback_and_nobody_takes_all(tmp_path: Path) -> None:
    file = tmp_path / "haproxy.cfg"
    file.write_text(CONFIGURATION)
    script = write_wrapper(tmp_path, ports=["23401", "23402"], connections=100)
    assert script is not None
    assert script.stat().st_mode & 0o777 == 0o700
    for _ in range(2):  # a reload finds the file as it is
        found = subprocess.run(
            [script, "-c", "-db", "-f", file], capture_output=True, text=True, check=False
        )
        assert found.returncode == 0, found.stderr
    lines = file.read_text().splitlines()
    assert "    bind 127.0.0.1:23402" in lines
    assert "  bind 127.0.0.1:23401" in lines
    assert not any(line.strip().startswith(("bind *", "bind :")) for line in lines)
    rules = [line for line in lines if "tcp-request" in line]
    assert len(rules) == 2
    assert "gt 80 }" in rules[1]
    assert lines.index(rules[0]) == lines.index("    bind 127.0.0.1:23400") + 1
    assert [line for line in lines if line.startswith("backend")] == ["backend greenroom_clients"]


def test_a_program_of_the_operator_is_the_one_that_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "their's" / "haproxy"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o700)
    monkeypatch.setenv("RAY_SERVE_HAPROXY_BINARY_PATH", str(program))
    script = write_wrapper(tmp_path, ports=[], connections=100)
    assert script is not None
    found = subprocess.run([script, "-v", "a b"], capture_output=True, text=True, check=True)
    assert found.stdout == "-v a b\n"


def test_a_folder_that_executes_nothing_leaves_haproxy_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_SERVE_HAPROXY_BINARY_PATH", "/bin/true")
    monkeypatch.setattr(haproxy_wrapper.os, "access", lambda *_: False)
    assert write_wrapper(tmp_path, ports=[], connections=100) is None
    assert os.path.exists(tmp_path / "haproxy")
