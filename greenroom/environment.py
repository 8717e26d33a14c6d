"""The environment variables that Ray and Ray Serve read during their import.

Ray's constants are module globals: a variable that is set after ``import ray`` has no effect, and
the processes that Ray starts inherit the environment of their starter. So this module sets the
variables before anything of `actors` is imported, and keeps every variable that the operator has
set. On an existing cluster the processes inherit from the raylet instead. There the operator sets
the same variables where the cluster starts, or passes them in the job's runtime environment.
"""

from __future__ import annotations

import hashlib
import os
import random
import secrets
import shutil
import socket
import sys
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from greenroom.core.errors import ConfigurationError
from greenroom.haproxy_wrapper import find_haproxy, write_wrapper
from greenroom.machine import open_files, reserve, short_directory

if TYPE_CHECKING:  # every actor imports this module, and none of them the settings
    from greenroom.settings import Settings

BLOCKS = (20_000, 30_000)
PORTS = 32
HAPROXY_CONNECTIONS = 20_000
REQUESTS_AT_ONCE = 1_000_000
"""How many requests Ray Serve lets a gateway have at once; Serve's default is 5.

A stream is one for its whole life. One beyond them waits without an answer, `/ok` too: so they are
more than HAProxy can pass on, which takes an open file for each."""
HALF_REQUEST_S = 10
"""How long the head of a request may take; `actors.gateway.impatience` is for Serve's own proxy."""
HAPROXY_OWN_FILES = 200
_HAPROXY = "RAY_SERVE_HAPROXY_BINARY_PATH"
_HAPROXY_OWN_PORTS = ("RAY_SERVE_HAPROXY_STATS_PORT", "RAY_SERVE_HAPROXY_METRICS_PORT")
TOKEN_FILE = "ray_token"
"""The file in the data directory with the token of the server's own Ray."""
SERVER_SECRETS = (
    "GREENROOM_DATABASE_URL",
    "GREENROOM_ENCRYPTION_KEYS",
    "GREENROOM_WEBHOOK_SECRETS",
)
"""The variables that nobody needs once the settings are read."""
SECRETS = (*SERVER_SECRETS, "RAY_AUTH_TOKEN")
"""The variables that no process with user code needs, once it is connected to Ray."""
STANDBY_REPLICAS = 2
"""Up to this number of gateways, one answers all requests and the other one stands by."""


def ray_environment(settings: Settings) -> dict[str, str]:
    """Returns the variables by name; to be set as defaults before ``import ray``."""
    environment = {
        "RAY_USAGE_STATS_ENABLED": "0",
        # Below `uv run` Ray would copy the working directory, of at most 512 MiB, and start each
        # process by `uv run` again; ours have the interpreter and the directory of the server.
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        # Task events fill the memory of Ray's control service: 353 MiB after 100,000 calls.
        "RAY_task_events_report_interval_ms": "0",
        # Without these a shutdown takes half a minute and a redeploy longer.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "1",
        # Serve restarts a proxy after three failed checks; with its interval of ten seconds no
        # client would get an answer for half a minute.
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
        # For a starting proxy: on a busy machine Serve's five seconds would end it before it is up.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "20",
        # Serve ends a HAProxy that is not up after 30 s, and Ray a process after 60 s.
        "RAY_SERVE_HAPROXY_STARTUP_TIMEOUT_S": "120",
        # What Serve 2.60 takes by itself. Before it there was no limit: HAProxy would not turn from
        # a gateway whose node is gone to another one.
        "RAY_SERVE_HAPROXY_TIMEOUT_CONNECT_S": "5",
        "RAY_worker_register_timeout_seconds": "300",
        # The gateways, the registry and HAProxy come before nodes that compute: Ray would give all
        # of its processes niceness 15, and run actors and inspectors give it to themselves.
        "RAY_worker_niceness": "0",
        # Called in every process that answers HTTP, with HAProxy in front or without.
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "actors.gateway.impatience.cut_half_requests",
        # Serve exports its metrics ten times a second, and looks at its event loops every five
        # seconds: a tenth of what an idle server costs.
        "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "5000",
        "RAY_SERVE_EVENT_LOOP_MONITORING_INTERVAL_S": "60",
        # Serve's controller looks at its replicas ten times a second: 2 % of a core.
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.3",
        # Serve's lines go to its log files; the terminal is for the server's own.
        "RAY_SERVE_LOG_TO_STDERR": "0",
    }
    if settings.ray_address is None:
        # Without a token everybody on this machine could execute code.
        environment["RAY_AUTH_MODE"] = "token"
        if "RAY_AUTH_TOKEN" not in os.environ:
            environment["RAY_AUTH_TOKEN_PATH"] = str(settings.data_dir / TOKEN_FILE)
    if settings.haproxy and haproxy_available():
        environment |= _haproxy_environment(settings)
    else:
        # Direct ingress without HAProxy would start no proxy at all.
        environment |= {"RAY_SERVE_ENABLE_HA_PROXY": "0", "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0"}
    return environment


def _make_token(path: Path) -> None:
    """Makes the file with the token of a server's own Ray; only its user may read it.

    One for each data directory: who has the token may execute code as the server's user, and Ray's
    own, in ``~/.ray``, is readable for everybody.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(file, "w") as token:
            token.write(secrets.token_hex(32))
    path.chmod(0o600)


def forget_secrets(names: Iterable[str] = SECRETS) -> None:
    """Takes secrets out of this process's environment, after whoever needs them has read them.

    What graphs start would inherit them: ``env`` in the shell of an agent would show them.
    """
    for name in names:
        os.environ.pop(name, None)


def apply_ray_environment(settings: Settings) -> dict[str, str]:
    """Sets the variables that are not set yet; returns the values in force.

    Raises:
        RuntimeError: Ray was imported already.
    """
    if "ray" in sys.modules:
        raise RuntimeError("ray was imported before its environment was set")
    environment = ray_environment(settings)
    token = environment.get("RAY_AUTH_TOKEN_PATH")
    if token is not None and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        _make_token(Path(token))
    in_force = {name: os.environ.setdefault(name, value) for name, value in environment.items()}
    if "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC" in environment:
        script = write_wrapper(
            haproxy_dir(settings.data_dir),
            ports=[in_force[name] for name in _HAPROXY_OWN_PORTS],
            connections=int(in_force["RAY_SERVE_HAPROXY_MAXCONN"]),
        )
        if script is not None:
            os.environ[_HAPROXY] = in_force[_HAPROXY] = str(script)
    return in_force


def haproxy_available() -> bool:
    """Whether Ray Serve will find HAProxy."""
    return find_haproxy() is not None


def haproxy_dir(data_dir: Path) -> Path:
    """Returns the directory of HAProxy's configuration and sockets for a data directory.

    It lies outside the data directory, because HAProxy takes no path of a socket beyond 97 bytes
    and Serve adds a node id of 56 bytes. Its name follows from the data directory, so that
    `datadir` recognises an orphan.
    """
    place = os.fsencode(f"{os.getuid()}:{data_dir.resolve()}")
    return short_directory() / f"gr-{hashlib.sha256(place).hexdigest()[:8]}"


def terminal_socket(data_dir: Path) -> Path:
    """Returns the path of the socket on which `greenroom serve` receives errors."""
    return haproxy_dir(data_dir) / "terminal.sock"


def make_haproxy_dir(data_dir: Path) -> None:
    """Makes the directory of `haproxy_dir`, closed to others: its admin socket is open to all.

    Raises:
        ConfigurationError: the directory cannot be made, or belongs to another user.
    """
    folder = haproxy_dir(data_dir)
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"The directory {folder} of the server's sockets cannot be made ({error.strerror});"
            " name another temporary directory in TMPDIR."
        ) from None
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise ConfigurationError(
            f"{folder} belongs to another user; have it removed, or use another --data-dir."
        )
    folder.chmod(0o700)


def remove_haproxy_dir(data_dir: Path) -> None:
    """Removes the directory of `haproxy_dir`; nothing in it outlives a server."""
    shutil.rmtree(haproxy_dir(data_dir), ignore_errors=True)


def free_block(size: int) -> range:
    """Returns neighbouring ports on which no process listens.

    The ports lie below the range of outgoing connections: one of those could take a port before
    HAProxy binds it. This process reserves the block until it ends, so that servers that start
    together do not collide.

    Raises:
        ConfigurationError: there is no free block of this size.
    """
    for _ in range(100):
        first = random.randrange(*BLOCKS, max(size, PORTS))
        block = range(first, first + size)
        with ExitStack() as held, suppress(OSError):
            for port in block:
                held.enter_context(socket.socket()).bind(("", port))
            if reserve(f"ports from {first}"):
                return block
    raise ConfigurationError(f"There are no {size} neighbouring ports free for Ray Serve.")


def haproxy_connections(files: int) -> int:
    """How many connections HAProxy may accept at once; it refuses to start if they do not fit.

    Args:
        files: the limit of its open files. It takes two for each connection.
    """
    return min(HAPROXY_CONNECTIONS, (files - HAPROXY_OWN_FILES) // 2)


def files_for(connections: int) -> int:
    """The limit of open files with which HAProxy may accept so many connections."""
    return connections * 2 + HAPROXY_OWN_FILES


def _haproxy_environment(settings: Settings) -> dict[str, str]:
    folder = haproxy_dir(settings.data_dir)
    # A second server on a machine fails on the fixed default ports, or meets the first one there.
    *replica_ports, stats_port, metrics_port, http_port, grpc_port = free_block(PORTS)
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # A stand-in (`actors.server.standin`) listens until Serve's next HAProxy does.
        "SERVE_SOCKET_REUSE_PORT_ENABLED": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(replica_ports[0]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(replica_ports[-1]),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats_port),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics_port),
        # Serve's own proxy, to which HAProxy turns while no replica is up.
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(http_port),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(grpc_port),
        # A gateway sends concurrent requests in one call: on few cores a second gateway with half
        # of the requests costs up to a fifth of the runs per second. So it stands by.
        "RAY_SERVE_HAPROXY_BALANCE_ALGORITHM": (
            "first" if settings.gateway_replicas <= STANDBY_REPLICAS else "leastconn"
        ),
        # Ray's template splices request bodies. HAProxy then notices that a client has left only at
        # the second heartbeat: `on_disconnect: "cancel"` would take ten seconds. There is no
        # variable for it, so this one adds a line behind its own option in the template. Nor is
        # there one for requests whose head does not end, of which HAProxy has no limit by itself.
        # Answers are not spliced either: it gains nothing for events, and the pipes take a fifth of
        # the open files, that is, of the streams that may be open.
        "RAY_SERVE_HAPROXY_RETRY_ON": (
            "conn-failure\n    no option splice-request\n    no option splice-response"
            f"\n    timeout http-request {HALF_REQUEST_S}s"
            # Gateways see the address of the client, not that of HAProxy.
            "\n    option forwardfor"
        ),
        "RAY_SERVE_HAPROXY_MAXCONN": str(haproxy_connections(open_files())),
        "RAY_SERVE_HAPROXY_NBTHREAD": str(min(4, os.cpu_count() or 1)),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
    }
