"""Makes docs/settings.md from `greenroom.settings`."""

from __future__ import annotations

from pydantic.fields import FieldInfo

from greenroom.settings import Settings, allowed, variable

GROUPS = {
    "Where it listens": (
        "config",
        "allow_broken",
        "host",
        "port",
        "open",
        "allowed_hosts",
        "reload",
        "debug_port",
        "gateway_replicas",
        "haproxy",
        "openai",
        "console",
    ),
    "Who is let in": (
        "auth",
        "auth_timeout_s",
        "api_keys",
        "jwt_issuer",
        "jwt_audience",
        "jwt_jwks_url",
        "jwt_algorithms",
        "jwt_leeway_s",
        "jwt_identity_claim",
        "jwt_permissions_claim",
        "jwt_admin",
    ),
    "Where it keeps its data": ("data_dir", "database_url", "encryption_keys"),
    "Ray": ("ray_address", "ray_namespace", "object_store_mib", "fork_processes", "dashboard"),
    "Time": (
        "start_patience_s",
        "heartbeat_s",
        "read_wait_s",
        "cancel_grace_s",
        "drain_s",
        "registry_silence_s",
        "inspect_s",
        "placement_patience_s",
        "resumable_ttl_s",
        "event_log_ttl_s",
        "thread_ttl_s",
        "sweep_interval_s",
    ),
    "Webhooks": (
        "webhook_allow_private",
        "webhook_timeout_s",
        "webhook_attempts",
        "webhook_retry_s",
        "webhook_retention_s",
        "webhook_secrets",
    ),
    "Limits": (
        "registry_shards",
        "default_max_actors",
        "max_queued_runs",
        "event_log_max_bytes",
        "log_max_bytes",
        "actor_log_max_bytes",
        "send_timeout_s",
        "max_body_bytes",
        "bodies_max_bytes",
    ),
    "Limits of each caller": (
        "limit_by",
        "limit_requests",
        "limit_body_bytes",
        "limit_streams",
        "limit_runs",
        "limit_queued",
    ),
    "Log": ("log_level", "log_format", "log_file"),
}
"""The settings as the documentation orders them."""

BOUNDS = ("from", "at least", "greater", "one of")
"""The beginnings of descriptions that say more than the type of a setting."""


RAY_ENVIRONMENT = """\
## Ray's own environment

Ray reads its environment while it is imported, and its processes inherit that of whoever started
it. `greenroom serve` sets what it needs before it starts a Ray of its own; what you have set
stays. With `serve run serve_app:app`, and on a cluster that you start, it is yours to set:

```sh
export RAY_SERVE_ENABLE_HA_PROXY=1 RAY_SERVE_THROUGHPUT_OPTIMIZED=1
export RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S=1
# Not about retries: HAProxy is to notice at once that a client has left, to need no more than two
# open files for a stream, to tell its address, and not to wait for heads that do not end.
export RAY_SERVE_HAPROXY_RETRY_ON="conn-failure
    no option splice-request
    no option splice-response
    timeout http-request 10s
    option forwardfor"
export RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=actors.gateway.impatience.cut_half_requests
export RAY_SERVE_METRICS_EXPORT_INTERVAL_MS=5000
export RAY_SERVE_EVENT_LOOP_MONITORING_INTERVAL_S=60
export RAY_SERVE_CONTROL_LOOP_INTERVAL_S=0.3 RAY_worker_niceness=0
export RAY_USAGE_STATS_ENABLED=0 RAY_task_events_report_interval_ms=0 RAY_AUTH_MODE=token
export RAY_ENABLE_UV_RUN_RUNTIME_ENV=0  # else `uv run` copies the directory to each process
```

`greenroom/environment.py` has all of them, with the reasons."""


def document() -> str:
    """Returns the text of docs/settings.md; ``make settings`` writes it, and a test compares it."""
    lines = [
        "# Settings",
        "",
        "<!-- Written by `make settings` from greenroom/settings.py; do not edit by hand. -->",
        "",
        "A server is set up by environment variables. They are read once, when it starts. Options",
        "of `greenroom serve` come before variables, and variables before the defaults.",
        "A variable that starts with `GREENROOM_` and does not stand here is refused.",
        "What belongs to one graph stands in `langgraph.json` instead:",
        "see [configuration](configuration.md).",
        "Units are in the names: `_s` are seconds, `_mib` are mebibytes.",
    ]
    for group, names in GROUPS.items():
        lines += ["", f"## {group}", "", "| variable | default | meaning |", "|---|---|---|"]
        for name in names:
            field = Settings.model_fields[name]
            # A bound is worth a word, a kind is not: that a path is a path says its name.
            values = allowed(name)
            for kind in ("a whole number ", "a number ", "of "):
                values = values.removeprefix(kind)
            values = f" {values.capitalize()}." if values.startswith(BOUNDS) else ""
            lines.append(f"| `{variable(name)}` | {_shown(field)} | {field.description}{values} |")
    return "\n".join([*lines, "", *RAY_ENVIRONMENT.splitlines(), ""])


def _shown(field: FieldInfo) -> str:
    match field.default:
        case None:
            return "unset"
        case bool() as value:
            return f"`{str(value).lower()}`"
        case float() as value:
            return f"`{value:g}`"
        case value:
            return f"`{value}`"


if __name__ == "__main__":
    print(document(), end="")
