"""The settings of a server: read once from ``GREENROOM_*``, frozen, passed down.

The settings of a graph (its resources and limits) are in ``langgraph.json``; those of the server
are here. No other module of Greenroom reads the environment. An unknown variable whose name starts
with ``GREENROOM_`` is refused, because an ignored typo is found only in production.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError
from pydantic_settings import SettingsConfigDict

from greenroom.core.addresses import is_loopback
from greenroom.core.errors import ConfigurationError
from greenroom.core.units import KIB, MIB
from greenroom.setting_groups import AccessSettings, CallerLimits, WebhookSettings
from greenroom.setting_values import (
    AbsolutePath,
    NotNegativeS,
    PositiveS,
    PostgresUrl,
)

PREFIX = "GREENROOM_"

SECRET = ("database_url", "encryption_keys", "webhook_secrets")
"""The settings whose values no message shows."""

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "json", "plain"]


class Settings(AccessSettings, CallerLimits, WebhookSettings):
    """The settings of one server, made by `Settings.read`; a variable is ``GREENROOM_<NAME>``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True
    )

    config: AbsolutePath = Field(
        default=Path("langgraph.json"),
        description="The configuration file: graphs, dependencies, environment.",
    )
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on. `0.0.0.0` opens the server to the network.",
    )
    open: bool = Field(
        default=False,
        description="Serve without authentication although `host` is not loopback: everybody who"
        " reaches the port may do everything. Unset, such a start is refused.",
    )
    allowed_hosts: str | None = Field(
        default=None,
        min_length=1,
        description="Names, separated by commas, under which a server on loopback is asked as well,"
        " such as that of a proxy in front. Requests with another `Host` are refused; where `host`"
        " is not loopback, none is.",
    )
    reload: bool = Field(
        default=False,
        description="Execute new runs with changed code, without a restart: what `greenroom dev`"
        " switches on. It costs a spare process for each placement.",
    )
    debug_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Let a debugger into each process that executes runs, at a port of its own on"
        " loopback from this one on: what `greenroom dev --debug-port` sets. Needs `debugpy`."
        " Whoever reaches such a port may execute code.",
    )
    port: int = Field(default=8000, ge=1, le=65535, description="Port to listen on.")
    gateway_replicas: int = Field(
        default=2,
        ge=1,
        description="How many gateway processes answer HTTP; about 100 MiB each. With one nobody is"
        " answered for some seconds when it dies. Of two that `greenroom serve` starts the second"
        " stands by; three or more share the requests.",
    )

    registry_shards: int = Field(
        default=1,
        ge=1,
        le=64,
        description="How many registries share the threads among them, for more runs a second than"
        " one process can decide about. Each takes about 70 MiB and keeps actors of its own: its"
        " share of every placement's `warm` and `max_actors`, at least one.",
    )

    allow_broken: bool = Field(
        default=False,
        description="Start although some graphs cannot be imported. A run of one of those ends in"
        " `error` with the reason, which `GET /info` shows too.",
    )

    data_dir: AbsolutePath = Field(
        default=Path(".greenroom"),
        description="Where the embedded database and the server's own files live.",
    )
    database_url: PostgresUrl | None = Field(
        default=None,
        repr=False,  # it carries a password
        description="PostgreSQL to use; unset, an embedded one in `data_dir` is started.",
    )

    encryption_keys: str | None = Field(
        default=None,
        min_length=1,
        repr=False,
        description="Keys with which state is encrypted before it is stored (AES-GCM), such as"
        " `2027:BASE64,2026:BASE64`: a name and 32 bytes each, the newest first. The first one"
        " encrypts, all decrypt.",
    )

    ray_address: str | None = Field(
        default=None,
        min_length=1,
        description="Ray cluster to join (`auto`, or a head's address); unset, a local Ray of"
        " the server's own is started and ended with it.",
    )
    ray_namespace: str = Field(
        default="greenroom",
        min_length=1,
        description="Ray namespace of the server's actors; two servers on one cluster need two.",
    )
    object_store_mib: int = Field(
        default=256,
        ge=80,
        description="Ray's shared object store on an own local Ray; events do not travel"
        " through it, so it can be small.",
    )
    dashboard: bool = Field(default=False, description="Start Ray's dashboard on an own local Ray.")
    fork_processes: bool = Field(
        default=True,
        description=(
            "With a Ray of its own, on Linux: processes are forked from one that has imported"
            " everything. They start in a tenth of the time and share most of their memory."
            " `false` makes each of them import for itself."
        ),
    )
    haproxy: bool = Field(
        default=True,
        description="Put HAProxy in front where `ray[serve]` brings it; elsewhere, or when off,"
        " Ray Serve's own proxy answers.",
    )

    heartbeat_s: PositiveS = Field(
        default=5.0, description="Seconds of silence after which a stream sends a heartbeat."
    )
    read_wait_s: PositiveS = Field(
        default=30.0, description="How long one long-poll read of a run's events waits."
    )
    cancel_grace_s: NotNegativeS = Field(
        default=5.0,
        description="What a cancelled run gets to stop by itself before its process is killed.",
    )
    drain_s: NotNegativeS = Field(
        default=5.0, description="What running runs get to reach a superstep when the server stops."
    )
    start_patience_s: PositiveS = Field(
        default=300.0,
        description="How long each step of a start may take: Ray, Ray Serve, the port, the first"
        " actors. On a busy machine they are slow, and are begun again.",
    )
    registry_silence_s: PositiveS = Field(
        default=120.0,
        description="A run actor that has heard from no registry for this long ends itself.",
    )

    inspect_s: PositiveS = Field(
        default=30.0,
        description="What a question about a graph or a thread's state may take, and an update of"
        " a state: the graph's factory, and code of its state. Then it is answered 503.",
    )

    placement_patience_s: NotNegativeS = Field(
        default=30.0,
        description="How long a run waits whose placement no node of the cluster, and none that its"
        " autoscaler could add, can satisfy; then it ends in `error` and says so.",
    )

    resumable_ttl_s: NotNegativeS = Field(
        default=120.0,
        description="How long the events of a `stream_resumable` run stay readable after its end.",
    )
    event_log_ttl_s: NotNegativeS = Field(
        default=3600.0,
        description="How long the events of a run stay in the log of its thread after its end, for"
        " clients of event streaming; `resumable_ttl_s` at least.",
    )
    event_log_max_bytes: int = Field(
        default=8 * MIB,
        ge=64 * KIB,
        description="Encoded events that the log of one thread keeps in the database; the oldest"
        " are deleted at the next sweep.",
    )
    thread_ttl_s: PositiveS | None = Field(
        default=None, description="Threads untouched for this long are deleted; unset, never."
    )
    sweep_interval_s: PositiveS = Field(
        default=10.0,
        description="How often expired threads and other things nobody needs are looked for.",
    )
    log_max_bytes: int = Field(
        default=64 * MIB,
        ge=64 * KIB,
        description="Encoded events that one run keeps in memory; the oldest go first.",
    )
    actor_log_max_bytes: int = Field(
        default=256 * MIB,
        ge=64 * KIB,
        description="Encoded events, and outputs of finished runs, that all runs of one process"
        " keep together: those of finished runs go first, then the oldest of the run that has"
        " most.",
    )
    send_timeout_s: PositiveS = Field(
        default=60.0,
        description="How long a client may read nothing of what it is sent. Then its connection is"
        " broken; its run goes on, and it may join again with the id of its last event.",
    )
    max_body_bytes: int = Field(
        default=64 * MIB, ge=KIB, description="The largest request body that is accepted."
    )
    bodies_max_bytes: int = Field(
        default=256 * MIB,
        ge=KIB,
        description="Request bodies that one gateway has under way together, each from its first"
        " byte to the beginning of its answer; one more is answered 503 and may be tried again.",
    )
    default_max_actors: int = Field(
        default=8,
        ge=1,
        description="Run actors of one placement, where `langgraph.json` names no `max_actors`.",
    )
    max_queued_runs: int | None = Field(
        default=None,
        ge=1,
        description="Runs of the whole server that wait for a slot or for their thread, delayed"
        " ones from when they are due; one more is answered 429. Of several registries each counts"
        " its share. Unset: no limit.",
    )

    openai: bool = Field(
        default=False,
        description="Serve the routes of OpenAI's API, `/v1/chat/completions`, `/v1/responses` and"
        " `/v1/models`. `http.openai` of `langgraph.json` does the same.",
    )

    console: bool = Field(
        default=True,
        description="Serve the console, a page for browsers, at `/console`. It shows what its"
        " user's key allows. `http.disable_ui` of `langgraph.json` switches it off, too.",
    )

    log_level: LogLevel = Field(default="info", description="The least severe line that is logged.")
    log_format: LogFormat = Field(
        default="auto", description="`auto` is plain on a terminal and JSON elsewhere."
    )
    log_file: Path | None = Field(
        default=None,
        description="A file that registry, gateways and run actors append their lines to, on each"
        " node; unset, each writes to its standard error, which Ray keeps in its log directory.",
    )

    @classmethod
    def read(cls, **given: Any) -> Self:
        """Reads the settings from the environment.

        Args:
            given: settings of the command line, which take precedence; None means not given.

        Raises:
            ConfigurationError: a variable is unknown or has a wrong value; the message names the
                variable, the value and the allowed values.
        """
        refuse_unknown(os.environ)
        try:
            return cls(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            raise ConfigurationError(_sentence(error)) from None

    @property
    def hosts(self) -> frozenset[str] | None:
        """The names of `allowed_hosts`, if the server listens on loopback only; else None."""
        if not is_loopback(self.host):
            return None
        names = (self.allowed_hosts or "").split(",")
        return frozenset(name.strip().lower() for name in names if name.strip())

    @property
    def url(self) -> str:
        """The URL of the server for a client on this machine."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "*") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


def variable(name: str) -> str:
    """Returns the environment variable of a setting."""
    return PREFIX + name.upper()


def refuse_unknown(names: Iterable[str]) -> None:
    """Raises ConfigurationError for the first ``GREENROOM_*`` name that is not a setting."""
    known = {variable(name) for name in Settings.model_fields}
    for name in sorted(names):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else "; docs/settings.md lists them."
            raise ConfigurationError(f"{name} is not a setting of Greenroom{hint}")


def _sentence(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    name = str(problem["loc"][0]) if problem["loc"] else ""
    if name not in Settings.model_fields:
        return f"{name} is not a setting of Greenroom."
    # A database URL carries a password, and an error message is copied into tickets.
    value = "" if name in SECRET else f" is {str(problem['input'])!r}, but"
    return f"{variable(name)}{value} must be {allowed(name, problem)}."


def allowed(name: str, problem: Any = None) -> str:
    """Describes the allowed values, to complete "must be ..."; docs/settings.md uses it too."""
    if problem is not None and problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    schema = Settings.model_json_schema()["properties"][name]
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    return _kind(kinds[0])


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(schema["enum"])
    match schema["type"]:
        case "boolean":
            return "true or false"
        case "integer" | "number":
            noun = "a whole number" if schema["type"] == "integer" else "a number"
            if "minimum" in schema and "maximum" in schema:
                return f"{noun} from {schema['minimum']} to {schema['maximum']}"
            if "minimum" in schema:
                return f"{noun} of at least {schema['minimum']:g}"
            return f"{noun} greater than {schema['exclusiveMinimum']:g}"
        case _:
            if schema.get("format") == "path":
                return "a path"
            return "a URL" if "minLength" not in schema else "a text that is not empty"
