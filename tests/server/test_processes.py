"""Which processes a server with a Ray of its own has."""

from __future__ import annotations

from pathlib import Path

import psutil

from tests.serving import Served

NEEDLESS = {"monitor.py", "log_monitor.py", "dashboard.py"}
"""Ray's programs that serve an autoscaler, a dashboard, and the log of the starting process."""


def test_ray_has_no_process_that_a_server_does_not_need(server: Served) -> None:
    commands = [process.cmdline()[:4] for process in server.descendants()]
    programs = {Path(part).name for command in commands for part in command}
    assert "raylet" in programs
    assert not programs & NEEDLESS


def test_the_agent_of_the_absent_dashboard_serves_nobody(server: Served) -> None:
    (agent,) = [each for each in server.descendants() if "DashboardAgent" in each.cmdline()[0]]
    listening = [each for each in agent.net_connections() if each.status == psutil.CONN_LISTEN]
    assert listening == []
